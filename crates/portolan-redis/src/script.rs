//! The operations as Lua scripts: each is atomic in Redis, and publishes what it did.

use std::sync::LazyLock;

use redis::aio::MultiplexedConnection;
use redis::{Cmd, RedisResult, ServerErrorKind, ToRedisArgs, Value};

/// A script that Redis may know already.
pub(crate) struct Script {
    code: &'static str,
    hash: String,
}

/// A script that is put together from these files.
macro_rules! script {
    ($name:ident, $($file:literal),+ $(,)?) => {
        pub(crate) static $name: LazyLock<Script> =
            LazyLock::new(|| Script::new(concat!($(include_str!(concat!("lua/", $file))),+)));
    };
}

/// One that writes a map begins with what all of them share.
macro_rules! map_script {
    ($name:ident, $($file:literal),+ $(,)?) => {
        script!($name, "ask.lua", "write.lua", $($file),+);
    };
}

map_script!(SET, "put.lua", "set.lua");
script!(SET_ALONE, "set_alone.lua");
map_script!(SET_IF_ABSENT, "put.lua", "set_if_absent.lua");
map_script!(COMPARE_AND_SET, "put.lua", "compare_and_set.lua");
map_script!(DELETE, "drop.lua", "delete.lua");
map_script!(INCREMENT, "put.lua", "increment.lua");
map_script!(APPEND, "put.lua", "list.lua", "append.lua");
map_script!(REMOVE, "put.lua", "drop.lua", "list.lua", "remove.lua");
map_script!(SET_MANY, "put.lua", "set_many.lua");
map_script!(CLEAR, "clear.lua");
script!(MARK, "mark.lua");
script!(LEASE_TAKE, "ask.lua", "lease_take.lua");
script!(LEASE_RENEW, "lease_renew.lua");
script!(BUS_READ, "bus_meta.lua", "bus_read.lua");
script!(BUS_APPEND, "ask.lua", "bus_meta.lua", "bus_append.lua");
script!(BUS_RENEW, "ask.lua", "bus_meta.lua", "bus_renew.lua");
script!(BUS_CLAIM, "bus_claim.lua");
script!(BUS_SAVE, "ask.lua", "bus_meta.lua", "bus_save.lua");

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
