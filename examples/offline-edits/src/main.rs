//! Two replicas of one document that change it while they are apart: the engine alone, without
//! a network, a file or a clock.
//!
//! Both decide on the course, one marks a shoal as gone that the other has just measured again.
//! When they meet, nothing is lost: the two courses stand beside each other in the same order on
//! both sides, and the new measurement survives the removal of the old one.

use portolan_core::{Delta, Document, Error, ReplicaId, Value};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let noon = 1_767_268_800_000; // milliseconds since the Unix epoch
    let minute = 60_000;

    let mut galley = Document::new(ReplicaId::new(0xa));
    galley.set(noon, "course", "north")?;
    galley.set(noon, "shoal/17", 4)?;
    let mut cog = Document::new(ReplicaId::new(0xb));
    exchange(&mut galley, &mut cog)?;
    assert_eq!(cog.get("course"), Some(&Value::from("north")));

    // Apart: each goes on reading and writing.
    galley.transact(noon + minute, |tx| {
        tx.set("course", "east")?;
        tx.unset("shoal/17");
        Ok::<_, Error>(())
    })?;
    cog.set(noon + 2 * minute, "course", "west")?;
    cog.set(noon + 3 * minute, "shoal/17", 3)?;
    assert_eq!(galley.get("shoal/17"), None);

    // Together again: both courses are there, the later one first, and so on both sides.
    exchange(&mut galley, &mut cog)?;
    for ship in [&galley, &cog] {
        let courses: Vec<_> = ship.get_all("course").map(|s| s.value.clone()).collect();
        assert_eq!(courses, ["west", "east"].map(Value::from));
        assert_eq!(ship.get("shoal/17"), Some(&Value::from(3)));
    }
    assert_eq!(galley.encode(), cog.encode());
    print("after they met", &galley);

    // Whoever has seen both decides, and the siblings are gone everywhere.
    galley.set(noon + 4 * minute, "course", "south")?;
    exchange(&mut galley, &mut cog)?;
    assert_eq!(cog.get_all("course").count(), 1);
    assert_eq!(galley.digest(), cog.digest());
    print("after one decided", &cog);
    Ok(())
}

/// Each side gives the other what it lacks. The bytes may travel in any way, late or twice.
fn exchange(a: &mut Document, b: &mut Document) -> Result<(), portolan_core::DecodeError> {
    let for_b = a.delta_since(&b.version()).encode();
    let for_a = b.delta_since(&a.version()).encode();
    b.apply(&Delta::decode(&for_b)?);
    a.apply(&Delta::decode(&for_a)?);
    a.apply(&Delta::decode(&for_a)?); // a second time changes nothing
    assert_eq!(a.version(), b.version());
    Ok(())
}

fn print(when: &str, document: &Document) {
    println!("{when}:");
    for (key, siblings) in document {
        let values: Vec<_> = siblings
            .map(|sibling| format!("{:?}", sibling.value))
            .collect();
        println!("  {key} = {}", values.join(", beside "));
    }
}
