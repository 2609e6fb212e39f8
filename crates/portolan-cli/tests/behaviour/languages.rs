//! Debian's iso-codes, from one end to the other.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use serde_json::{Value as Json, json};

use crate::support::{Lines, Proxy, Server, folder, try_http, wait_for, wait_until};

const FOLDER: &str = "/usr/share/iso-codes/json";

fn rows(file: &str, field: &str) -> Vec<Json> {
    let path = Path::new(FOLDER).join(file);
    let text = std::fs::read_to_string(&path)
        .unwrap_or_else(|error| panic!("{}: {error}: apt-get install iso-codes", path.display()));
    let document: Json = serde_json::from_str(&text).expect("JSON");
    document[field].as_array().expect("rows").clone()
}

#[test]
fn every_list_of_iso_codes_is_imported_as_it_is() {
    let server = Server::in_memory();
    for (file, field, key) in [
        ("iso_639-3.json", "639-3", "alpha_3"),
        ("iso_639-2.json", "639-2", "alpha_3"),
        ("iso_639-5.json", "639-5", "alpha_3"),
        ("iso_3166-1.json", "3166-1", "alpha_2"),
        ("iso_3166-2.json", "3166-2", "code"),
        ("iso_3166-3.json", "3166-3", "alpha_4"),
        ("iso_4217.json", "4217", "alpha_3"),
        ("iso_15924.json", "15924", "alpha_4"),
    ] {
        let path = format!("{FOLDER}/{file}");
        let pointer = format!("/{field}");
        let said = server
            .run(["import", field, &path, "--rows", &pointer, "--key", key])
            .ok();
        let rows = rows(file, field);
        assert!(
            said.starts_with(&format!("imported {} entries", rows.len())),
            "{said}"
        );
        let exported: Json = serde_json::from_str(&server.run(["export", field]).ok()).unwrap();
        let expected: serde_json::Map<_, _> = rows
            .into_iter()
            .map(|row| (row[key].as_str().unwrap().to_owned(), row))
            .collect();
        assert_eq!(exported, Json::Object(expected), "{file}");
    }
}

#[test]
fn languages_survive_parting_and_a_killed_server() {
    let folder = folder();
    let mut server = Server::on(&folder.path().join("store"));
    let watch = Lines::of(&mut server.command(["watch", "languages", "--json"]));
    wait_for("the watch begins", || {
        server.put("languages", "ping", &json!(0));
        watch.try_next()
    });
    server.run(["unset", "languages", "ping"]).ok();

    // A second process sees the whole import.
    let file = format!("{FOLDER}/iso_639-3.json");
    let import = [
        "import",
        "languages",
        &file,
        "--rows",
        "/639-3",
        "--key",
        "alpha_3",
    ];
    server.run(import).ok();
    let rows = rows("iso_639-3.json", "639-3");
    let mut seen = BTreeMap::new();
    while seen.len() < rows.len() {
        let change = watch.json();
        let key = change["path"][0].as_str().unwrap().to_owned();
        match change.get("new") {
            Some(new) if key != "ping" => seen.insert(key, new.clone()),
            _ => seen.remove(&key),
        };
    }
    for row in &rows {
        assert_eq!(seen.get(row["alpha_3"].as_str().unwrap()), Some(row));
    }

    // Two clients that were apart write the same key.
    let proxies = [Proxy::to(server.address()), Proxy::to(server.address())];
    let clients = [0, 1].map(|i: usize| {
        let url = format!("ws://{}", proxies[i].address);
        Server::start(["--memory", "--connect", &url])
    });
    wait_until("both have all", || {
        clients
            .iter()
            .all(|client| client.get("languages", "zzj").is_some())
    });
    proxies.iter().for_each(Proxy::cut);
    clients[0].put("languages", "deu", &json!({ "name": "Deutsch" }));
    clients[1].put("languages", "deu", &json!({ "name": "Tedesco" }));
    proxies.iter().for_each(Proxy::mend);
    wait_until("both values are everywhere", || {
        let everywhere = [&clients[0], &clients[1], &server];
        everywhere
            .iter()
            .all(|place| place.siblings("languages", "deu").len() == 2)
    });
    let order = server.siblings("languages", "deu");
    for client in &clients {
        assert_eq!(client.siblings("languages", "deu"), order);
    }
    let told =
        std::iter::from_fn(|| Some(watch.json())).find(|change| change.get("siblings").is_some());
    let told = told.expect("the watcher is told");
    assert_eq!(
        json!([told["new"], told["siblings"][0]]),
        Json::Array(order.clone())
    );

    // The server is killed in the middle of a stream of writes.
    let acknowledged = Arc::new(AtomicU64::new(0));
    let failed = Arc::new(Mutex::new(None));
    let writer = {
        let (url, acknowledged, failed) =
            (server.url.clone(), acknowledged.clone(), failed.clone());
        std::thread::spawn(move || {
            for i in 1.. {
                let path = format!("/v1/maps/languages/keys/new-{i}");
                match try_http(&url, "PUT", &path, &[], &json!({ "n": i }).to_string()) {
                    Ok(answer) if answer.status == 201 => acknowledged.store(i, Ordering::SeqCst),
                    other => {
                        *failed.lock().unwrap() = Some(format!("{other:?}"));
                        return;
                    }
                }
            }
        })
    };
    wait_until("writes go on", || {
        acknowledged.load(Ordering::SeqCst) >= 100
    });
    server.kill();
    writer.join().unwrap();
    server.restart();
    let acknowledged = acknowledged.load(Ordering::SeqCst);
    assert!(acknowledged >= 100, "{failed:?}");
    let keys: Vec<String> =
        serde_json::from_value(server.read("/v1/maps/languages/keys?pattern=new-*").json())
            .unwrap();
    for i in 1..=acknowledged {
        assert!(
            keys.contains(&format!("new-{i}")),
            "{i} of {acknowledged} is lost"
        );
        assert_eq!(
            server.get("languages", &format!("new-{i}")),
            Some(json!({ "n": i }))
        );
    }
    assert!(keys.len() as u64 <= acknowledged + 1);
    assert_eq!(server.siblings("languages", "deu"), order);
    assert_eq!(
        server.get("languages", "zzj").as_ref(),
        rows.last().filter(|row| row["alpha_3"] == json!("zzj"))
    );

    // The watcher and the clients are back, and have missed nothing.
    server.put("languages", "deu", &json!({ "name": "German" }));
    let mut missing: std::collections::BTreeSet<_> =
        (1..=acknowledged).map(|i| format!("new-{i}")).collect();
    loop {
        let change = watch.json();
        let key = change["path"][0].as_str().unwrap();
        missing.remove(key);
        if key == "deu" {
            assert_eq!(change["old"], order[0]);
            assert_eq!(change["new"], json!({ "name": "German" }));
            break;
        }
    }
    assert_eq!(missing.len(), 0, "{missing:?}");
    for client in &clients {
        wait_until("the clients are back", || {
            client.siblings("languages", "deu") == [json!({ "name": "German" })]
                && client
                    .get("languages", &format!("new-{acknowledged}"))
                    .is_some()
        });
    }
}
