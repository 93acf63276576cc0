use super::*;
use crate::core::testing;
use crate::data::DataThread;
use crate::roster::Registry;
use bytes::Bytes;
use tokio::sync::Notify;
use wire::message::{Content, Vitals};

fn hub(data_dir: &Path) -> (Arc<Hub>, DataThread) {
    let tables = Arc::new(Notify::new());
    let (registry, _thread) = Registry::start(&data_dir.join("roster.db"), Arc::clone(&tables)).unwrap();
    testing::hub("NA", data_dir, registry, tables)
}

fn text(text: &str) -> Option<Content> {
    Some(Content { content_type: "text/plain".into(), bytes: Bytes::copy_from_slice(text.as_bytes()) })
}

#[tokio::test]
async fn m3_6_only_the_tables_that_a_change_concerns_are_made_anew() {
    let scratch = tempfile::tempdir().unwrap();
    let (hub, thread) = hub(scratch.path());
    let mut written = Written::default();
    let mut made = |hub: &Hub, clients_moved: bool| {
        written.clients &= !clients_moved;
        let before = written.made;
        written.write(hub);
        assert!(written.is_up_to_date(hub));
        written.made - before
    };
    assert_eq!(made(&hub, false), 3);
    assert_eq!(made(&hub, false), 0, "nothing moved");
    assert_eq!(made(&hub, true), 2, "an acknowledgement");
    for n in 0..50 {
        hub.data.put(Bytes::from(format!("n{}", n % 5)), text("x"), &Access::everything()).await.unwrap();
    }
    assert_eq!(made(&hub, false), 1, "fifty puts");
    assert_eq!(made(&hub, false), 0);
    hub.data.put(Bytes::from("n1"), None, &Access::everything()).await.unwrap();
    assert_eq!(made(&hub, false), 1, "a removal");
    let moved = hub.standing.subscribe();
    hub.fleet.sampled(7, &Vitals::default());
    assert!(!moved.has_changed().unwrap());
    assert_eq!(made(&hub, false), 0, "vitals");
    assert_eq!(fs::read_to_string(scratch.path().join("values.csv")).unwrap().lines().count(), 5);
    hub.data.stop();
    thread.join().unwrap();
}

#[tokio::test]
async fn m3_6_a_table_that_could_not_be_written_is_written_later() {
    let scratch = tempfile::tempdir().unwrap();
    let (hub, thread) = hub(scratch.path());
    // In the way of what is written beside.
    let in_the_way = scratch.path().join("values.csv.new");
    fs::create_dir(&in_the_way).unwrap();
    let mut written = Written::default();
    written.write(&hub);
    assert!(written.clients && !written.is_up_to_date(&hub));
    fs::remove_dir(&in_the_way).unwrap();
    written.write(&hub);
    assert!(written.is_up_to_date(&hub));
    assert!(scratch.path().join("values.csv").exists());
    // A hub that is called so is not missing.
    assert!(fs::read_to_string(scratch.path().join("server.csv")).unwrap().contains("\n\\x4eA,"));
    hub.data.stop();
    thread.join().unwrap();
}
