//! The operations as Lua scripts: each is atomic in Redis, and publishes what it did.

use std::sync::LazyLock;

use redis::aio::MultiplexedConnection;
use redis::{Cmd, RedisResult, ServerErrorKind, ToRedisArgs, Value};

/// A script that Redis may know already.
pub(crate) struct Script {
    code: &'static str,
    hash: String,
}

/// A script that writes begins with what all of them share.
macro_rules! script {
    ($name:ident, $($file:literal),+ $(,)?) => {
        pub(crate) static $name: LazyLock<Script> =
            LazyLock::new(|| Script::new(concat!($(include_str!(concat!("lua/", $file))),+)));
    };
}

script!(SET, "write.lua", "put.lua", "set.lua");
script!(SET_ALONE, "set_alone.lua");
script!(SET_IF_ABSENT, "write.lua", "put.lua", "set_if_absent.lua");
script!(
    COMPARE_AND_SET,
    "write.lua",
    "put.lua",
    "compare_and_set.lua"
);
script!(DELETE, "write.lua", "drop.lua", "delete.lua");
script!(INCREMENT, "write.lua", "put.lua", "increment.lua");
script!(APPEND, "write.lua", "put.lua", "list.lua", "append.lua");
script!(
    REMOVE,
    "write.lua",
    "put.lua",
    "drop.lua",
    "list.lua",
    "remove.lua"
);
script!(SET_MANY, "write.lua", "put.lua", "set_many.lua");
script!(CLEAR, "write.lua", "clear.lua");
script!(MARK, "mark.lua");
script!(LEASE_TAKE, "lease_take.lua");
script!(LEASE_RENEW, "lease_renew.lua");
script!(BUS_READ, "bus_read.lua");
script!(BUS_APPEND, "bus_append.lua");
script!(BUS_RENEW, "bus_renew.lua");
script!(BUS_CLAIM, "bus_claim.lua");
script!(BUS_SAVE, "bus_save.lua");

impl Script {
    fn new(code: &'static str) -> Self {
        let hash = redis::Script::new(code).get_hash().to_owned();
        Self { code, hash }
    }

    /// Runs it in one round trip; in two where this Redis has not seen it yet.
    pub(crate) async fn run(
        &self,
        connection: &mut MultiplexedConnection,
        keys: &[&str],
        arguments: &[&[u8]],
    ) -> RedisResult<Value> {
        let known = command("EVALSHA", &self.hash, keys, arguments);
        match known.query_async(connection).await {
            Err(error) if is_unknown_script(&error) => {
                let whole = command("EVAL", self.code, keys, arguments);
                whole.query_async(connection).await
            }
            done => done,
        }
    }
}

fn is_unknown_script(error: &redis::RedisError) -> bool {
    error.kind() == redis::ErrorKind::Server(ServerErrorKind::NoScript)
}

fn command(name: &str, script: impl ToRedisArgs, keys: &[&str], arguments: &[&[u8]]) -> Cmd {
    let mut command = redis::cmd(name);
    command.arg(script).arg(keys.len()).arg(keys).arg(arguments);
    command
}
