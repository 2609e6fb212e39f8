//! Servers on a bus where somebody else writes: entries, snapshots and messages that are damaged,
//! cut, repeated or forged. Nothing breaks; where nothing was forged, all hold the same in the end.

#![no_main]

use libfuzzer_sys::fuzz_target;
use portolan_fuzz::Script;

#[path = "../../crates/portolan-core/tests/sync/network.rs"]
#[allow(dead_code, reason = "the tests use all of it")]
mod network;

/// The log of the machine's own tests, and the servers on it.
#[path = "../../crates/portolan-core/tests/sync/bus"]
#[allow(dead_code, reason = "the tests use all of it")]
mod bus {
    mod log;
    mod server;
    mod world;

    use bytes::Bytes;
    use portolan_core::sync::{Config, Replica};
    use portolan_core::{Document, ReplicaId};
    use portolan_fuzz::{Script, assert_sound, sealed};

    use self::server::Stage;
    use self::world::{World, shown};
    use crate::network::NAME;

    /// Longer scripts find nothing more, and take longer.
    const MAX_STEPS: usize = 60;
    /// The format of entries and snapshots, and of messages.
    const FORMAT: u8 = 1;
    /// The kinds of sections in an entry.
    const SECTIONS: usize = 4;
    /// The kinds of messages.
    const MESSAGES: usize = 5;
    /// What nobody on the log is called.
    const STRANGER: usize = usize::MAX;

    pub(crate) struct Attack {
        world: World,
        /// Something was taken that nobody had done.
        forged: bool,
        /// What was said so far, of which some is said again.
        said: Vec<Bytes>,
    }

    impl Attack {
        pub(crate) fn new(script: &mut Script<'_>) -> Self {
            let setup = script.byte();
            let durable = [setup & 1 != 0, setup & 2 != 0];
            let mut world = World::new(2, &durable, setup & 4 != 0);
            world.wronged = true;
            Self {
                world,
                forged: false,
                said: Vec::new(),
            }
        }

        pub(crate) fn run(mut self, script: &mut Script<'_>) {
            for _ in 0..MAX_STEPS {
                if script.is_over() {
                    break;
                }
                self.step(script);
            }
            if !self.forged {
                self.world.calm();
            }
            let alive = self.world.servers.iter().filter(|server| server.alive);
            let nodes = alive.map(|server| server.node);
            let nodes: Vec<usize> = nodes
                .chain(self.world.clients.iter().map(|client| client.0))
                .collect();
            let first = self.world.net.replica(nodes[0]).document();
            for node in nodes {
                let replica = self.world.net.replica(node);
                let document = replica.document();
                assert_eq!(replica.version(), &document.version());
                assert_sound(document);
                if !self.forged {
                    assert_eq!(document.version(), first.version());
                    assert_eq!(document.digest(), first.digest());
                    assert_eq!(shown(document), shown(first));
                }
            }
        }

        fn step(&mut self, script: &mut Script<'_>) {
            let at = script.below(self.world.servers.len());
            match script.byte() % 16 {
                0 => self.damage_entry(script),
                1 => self.forge_entry(script),
                2 => self.damage_message(at, script),
                3 => self.forge_message(at, script),
                4 => self.load_snapshot(script),
                5 => self.repeat(at, script),
                _ => {
                    let step = (script.byte(), at as u8, u16::from(script.byte()) * 257);
                    // Forged operations have no place in what is checked after a step.
                    if !self.forged || self.may_go_on(step.0) {
                        self.world.step(step);
                    }
                }
            }
            for server in &self.world.servers {
                self.said.extend(server.heard.iter().take(2).cloned());
            }
            self.said.truncate(16);
        }

        /// Where nothing need come to rest.
        fn may_go_on(&self, what: u8) -> bool {
            !(212..217).contains(&what)
        }

        /// An entry of the log is not what was appended.
        fn damage_entry(&mut self, script: &mut Script<'_>) {
            let Some(log) = &mut self.world.log else {
                return;
            };
            let at = script.below(log.entries.len().min(256));
            let (_, _, entry) = &mut log.entries[at];
            *entry = damaged(script, entry);
        }

        /// An entry of the log that no server has appended.
        fn forge_entry(&mut self, script: &mut Script<'_>) {
            let Some(log) = &mut self.world.log else {
                return;
            };
            let known = log.entries.last().map(|(.., entry)| entry.to_vec());
            let entry = forged_entry(script, known.as_deref());
            self.forged = true;
            log.append(STRANGER, log.last(), entry);
        }

        /// A message is not what was said.
        fn damage_message(&mut self, at: usize, script: &mut Script<'_>) {
            if let Some(message) = self.world.servers[at].heard.front_mut() {
                *message = damaged(script, message);
            }
            self.world.hear(at);
        }

        /// Somebody says what no server has said.
        fn forge_message(&mut self, at: usize, script: &mut Script<'_>) {
            let mut content = vec![FORMAT, 1 + script.below(MESSAGES) as u8];
            let other = self.world.servers.len() - 1 - at.min(self.world.servers.len() - 1);
            let from = [other as u64, 0x0102][script.below(2)];
            content.extend_from_slice(&from.to_le_bytes());
            if content[1] == 2 || content[1] == 5 {
                content.extend_from_slice(&(at as u64).to_le_bytes());
            }
            let len = script.below(256);
            content.extend_from_slice(script.take(len));
            self.forged = true;
            self.world.servers[at]
                .heard
                .push_back(sealed(&content).into());
            self.world.hear(at);
        }

        /// A message is heard that was heard before.
        fn repeat(&mut self, at: usize, script: &mut Script<'_>) {
            if !self.said.is_empty() {
                let said = script.below(self.said.len());
                let said = self.said.swap_remove(said);
                self.world.servers[at].heard.push_back(said);
            }
            self.world.hear(at);
        }

        /// Somebody joins from a snapshot that is damaged or forged.
        fn load_snapshot(&mut self, script: &mut Script<'_>) {
            let now = self.world.net.now;
            let saved = self.world.servers.iter().find_map(|server| {
                let on = matches!(server.stage, Stage::On { .. }) && server.alive;
                on.then_some(server.node)
            });
            let Some(node) = saved else {
                return;
            };
            let (saved, _) = self.world.net.nodes[node].replica.bus_snapshot(now);
            let saved = if script.flag() {
                damaged(script, &saved)
            } else {
                forged_entry(script, Some(&saved))
            };
            let id = ReplicaId::new(0x0304);
            let config = Config::default();
            let mut replica = Replica::new(NAME, 9, Document::new(id), false, config);
            replica.attach_bus(9);
            let entry = replica.join_entry(now);
            if replica.join_bus(now, Some(&saved), &[entry]).is_err() {
                assert!(replica.version().is_empty());
                assert!(!replica.is_on_bus());
            }
            while replica.poll_entry(now).is_some() {
                replica.entry_read(now);
            }
            assert_sound(replica.document());
        }
    }

    /// With some bytes changed, or cut.
    fn damaged(script: &mut Script<'_>, bytes: &Bytes) -> Bytes {
        let mut bytes = bytes.to_vec();
        if bytes.is_empty() {
            return bytes.into();
        }
        let at = (script.below(256) * 256 + script.below(256)) % bytes.len();
        if script.flag() {
            bytes.truncate(at);
        } else {
            bytes[at] ^= script.byte().max(1);
        }
        bytes.into()
    }

    /// Sections that nobody wrote, each with its checksum, and those of a known entry.
    fn forged_entry(script: &mut Script<'_>, known: Option<&[u8]>) -> Bytes {
        let mut entry = vec![FORMAT];
        for _ in 0..=script.below(3) {
            let len = script.below(128);
            let content = sealed(script.take(len));
            entry.push(1 + script.below(SECTIONS) as u8);
            // As a varint of two bytes at the most.
            match content.len() {
                len @ ..128 => entry.push(len as u8),
                len => entry.extend([len as u8 | 0x80, (len >> 7) as u8]),
            }
            entry.extend_from_slice(&content);
        }
        let known = known.filter(|_| script.flag());
        entry.extend_from_slice(known.and_then(|known| known.get(1..)).unwrap_or_default());
        entry.into()
    }
}

fuzz_target!(|bytes: &[u8]| {
    let mut script = Script::new(bytes);
    bus::Attack::new(&mut script).run(&mut script);
});
