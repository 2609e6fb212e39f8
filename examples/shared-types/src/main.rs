//! The replicated data types, each by itself: no document, no node, and the transport is a list
//! of bytes.
//!
//! Three ships share a list of ports, a set of crew, a flag and a count of barrels. Messages come
//! late, twice and in another order; each message finds what it belongs to by the id in it. A
//! fourth ship joins later and is fed from the histories of two others.

use portolan_core::types::{
    Counter, InstanceId, Moment, MvRegister, OrSet, Refused, RgArray, Update,
};
use portolan_core::{DotSet, ReplicaId, Value};

const PORTS: InstanceId = InstanceId::new(0x0a11);
const CREW: InstanceId = InstanceId::new(0x0b22);
const FLAG: InstanceId = InstanceId::new(0x0c33);
const BARRELS: InstanceId = InstanceId::new(0x0d44);

struct Ship {
    ports: RgArray,
    crew: OrSet,
    flag: MvRegister,
    barrels: Counter,
}

impl Ship {
    fn new(number: u64) -> Self {
        let replica = ReplicaId::new(number);
        // A clock of its own, so that the example does the same every time.
        let clock = move || 1_767_268_800_000 + number;
        Self {
            ports: RgArray::with_clock(PORTS, replica, clock),
            crew: OrSet::with_clock(CREW, replica, clock),
            flag: MvRegister::with_clock(FLAG, replica, clock),
            barrels: Counter::with_clock(BARRELS, replica, clock),
        }
    }

    fn receive(&mut self, message: &[u8]) -> Result<(), Box<dyn std::error::Error>> {
        let update = Update::decode(message)?;
        let _new: DotSet = match update.instance() {
            PORTS => self.ports.apply(&update)?,
            CREW => self.crew.apply(&update)?,
            FLAG => self.flag.apply(&update)?,
            BARRELS => self.barrels.apply(&update)?,
            other => return Err(format!("no ship knows {other}").into()),
        };
        Ok(())
    }

    fn digests(&self) -> [u128; 4] {
        let Self {
            ports,
            crew,
            flag,
            barrels,
        } = self;
        [
            ports.digest(),
            crew.digest(),
            flag.digest(),
            barrels.digest(),
        ]
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut ships: Vec<Ship> = (1..=3).map(Ship::new).collect();
    let mut messages: Vec<Vec<u8>> = Vec::new();

    // Each writes without having heard of the others.
    for (ship, port) in ships.iter_mut().zip(["Genova", "Palma", "Genova"]) {
        messages.push(ship.ports.append(port)?.1.encode());
    }
    messages.push(ships[0].barrels.add(5)?.encode());
    messages.push(ships[1].barrels.add(3)?.encode());
    messages.push(ships[0].flag.set("red")?.encode());
    messages.push(ships[2].flag.set("white")?.encode());
    for member in [Value::from(1), Value::from(1.0), Value::from("ada")] {
        messages.push(ships[1].crew.insert(member)?.encode());
    }

    // To each in another order, and some twice.
    for (at, ship) in ships.iter_mut().enumerate() {
        let turned = messages.iter().cycle().skip(at * 4);
        for message in turned.take(messages.len() + 3) {
            ship.receive(message)?;
        }
    }
    for ship in &ships {
        let ports: Vec<&str> = ship.ports.values(..).filter_map(Value::as_str).collect();
        assert_eq!(ports, ["Genova", "Palma", "Genova"]);
        assert_eq!((ship.barrels.read(), ship.crew.len()), (8, 3));
        assert_eq!(ship.flag.read().count(), 2);
        assert_eq!(ship.digests(), ships[0].digests());
    }
    println!(
        "the ports: {:?}",
        ships[0].ports.values(..).collect::<Vec<_>>()
    );
    println!("barrels: 5 beside 3 is {}", ships[0].barrels.read());
    let flags = ships[0].flag.read().map(|sibling| sibling.value);
    println!("flags: {:?}", flags.collect::<Vec<_>>());

    // What belongs to something else is refused.
    let refused = ships[0].crew.apply(&Update::decode(&messages[0])?);
    assert!(matches!(refused, Err(Refused::OtherInstance { .. })));

    // One ship goes on; a fourth is told in two pieces, the later one first.
    let then = ships[0].ports.version();
    let first = ships[0].ports.id(0).ok_or("a port")?;
    ships[0].ports.delete(0)?;
    ships[0].ports.append("Chios")?;
    ships[0].ports.undelete(first)?;
    let later = ships[0].ports.history(&then, Moment::Open);
    let earlier = ships[0].ports.history(Moment::Open, &then);
    let mut fourth = Ship::new(4);
    for history in [later, earlier] {
        let history = history.ok_or("the past is kept")?;
        fourth.receive(&history.update.encode())?;
    }
    assert_eq!(fourth.ports.encode(), ships[0].ports.encode());
    assert_eq!(fourth.ports.index_of(first), Some(0));
    println!("the fourth ship has {} ports", fourth.ports.len());
    Ok(())
}
