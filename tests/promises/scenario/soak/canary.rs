//! A hub that acknowledges what is not on its disk stands for one that does it wrong: the judge says so.

use std::process::Command;

use super::super::program::{Say, Session};
use super::super::text::Text;
use super::life::{Life, judge};
use super::{Scene, free_port};
use crate::web::Web;
use support::Cluster;

fn copied(from: &std::path::Path, to: &std::path::Path) {
    std::fs::remove_dir_all(to).ok();
    let status = Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap();
    assert!(status.success());
}

/// A client that puts, and a hub that is killed; whatever `happens` to the hub's disk before it starts again.
fn judged(happens: fn(&mut Cluster)) -> Vec<String> {
    let [http, text] = [free_port(), free_port()].map(|port| format!("127.0.0.1:{port}"));
    let mut cluster = Cluster::start(|_| {}, &["--http", &http, "--text", &text]);
    let transport = Text { address: text };
    let mut session = Session::enrolled(&transport, 10);
    let mut life = Life::of(10);
    let reader = Web::of(&mut cluster).user("10", &session.unique_id);
    // What its disk holds by now is all that it will have held.
    cluster.kill_hub();
    let disk = cluster.hub_data().with_extension("kept");
    copied(&cluster.hub_data(), &disk);
    cluster.start_hub();
    session.back(0);
    life.puts("own/10/0".into(), "newest".into());
    session.program.say(Say::Put("own/10/0", "newest"));
    let mut read = 0;
    support::until(support::PATIENCE, "it to be acknowledged and told", || {
        let told = session.program.told()[read..].to_vec();
        read += told.len();
        told.iter().for_each(|told| life.told(told));
        !life.waits && life.is_current && !life.held.is_empty()
    });
    cluster.kill_hub();
    happens(&mut cluster);
    cluster.start_hub();
    let scene = Scene { cluster, reader, cables: Vec::new() };
    judge([&life], &scene.board())
}

#[test]
fn canary_a_hub_whose_disk_never_had_what_it_acknowledged_is_told() {
    assert_eq!(judged(|_| {}), Vec::<String>::new(), "the scene itself");
    let wrong = judged(|cluster| copied(&cluster.hub_data().with_extension("kept"), &cluster.hub_data()));
    assert!(wrong.iter().any(|why| why.starts_with("lost: own/10/0 = newest")), "{wrong:?}");
}
