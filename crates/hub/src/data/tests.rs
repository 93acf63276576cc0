use super::*;
use board::{MemoryStore, OpenOptions};
use wire::id::ClientId;
use wire::rights::Rights;

fn writer() -> Writer {
    let options = OpenOptions { durable: false, boot_id: String::new(), entropy: Box::new(|| 7) };
    Writer::open(Box::new(MemoryStore), options).unwrap()
}

fn text(bytes: usize) -> Option<Content> {
    Some(Content { content_type: "text/plain".into(), bytes: vec![b'x'; bytes].into() })
}

async fn put(data: &Data, name: &'static str, content: Option<Content>) -> Result<Version, PutError> {
    data.put(Bytes::from(name), content, &Access::everything()).await
}

fn end(data: Data, thread: DataThread) -> Board {
    data.stop();
    thread.join().unwrap();
    data.board
}

#[tokio::test]
async fn values_take_so_many_bytes_in_all_and_room_is_found_by_removing() {
    let (data, thread) =
        Data::start_with(writer(), Room { values: 1, bytes: Limits::default().values_bytes - 1000 }, Arc::default());
    put(&data, "a", text(400)).await.unwrap();
    let refused = put(&data, "b", text(700)).await.unwrap_err();
    assert!(matches!(refused, PutError::Full(_)), "{refused}");
    assert!(refused.to_string().contains("256 MiB") && refused.to_string().contains("remove some"), "{refused}");
    assert!(data.get(b"b", &Access::everything()).unwrap().is_none());
    // An overwrite counts by what it adds, a removal gives back what it held.
    put(&data, "a", text(800)).await.unwrap();
    put(&data, "a", None).await.unwrap();
    put(&data, "b", text(700)).await.unwrap();
    put(&data, "b", text(100)).await.unwrap();
    put(&data, "a", text(700)).await.unwrap();
    end(data, thread);
}

#[tokio::test]
async fn the_number_of_values_is_limited_also_where_many_are_put_at_once() {
    let (data, thread) =
        Data::start_with(writer(), Room { values: Limits::default().values - 1, bytes: 0 }, Arc::default());
    let (a, b) = tokio::join!(put(&data, "a", text(1)), put(&data, "b", text(1)));
    assert!(a.is_ok());
    assert!(matches!(b, Err(PutError::TooMany(_))), "{b:?}");
    put(&data, "a", text(2)).await.unwrap();
    end(data, thread);
}

/// Whatever is written, what was counted on the way is what the board holds, as a hub that starts on it counts it.
#[test]
fn what_is_counted_on_the_way_is_what_a_start_counts() {
    let seed = getrandom::u64().unwrap();
    let mut state = seed;
    let mut random = |below: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    let mut writer = writer();
    let board = writer.board();
    let mut room = Room::default();
    for round in 0..300 {
        let mut filling = room.filling(&board, Room { values: 1000, bytes: 100_000 });
        let writes: Vec<Write> = (0..=random(8))
            .map(|_| {
                let name = Bytes::from(format!("n{}", random(6)));
                match random(3) {
                    0 => Write::Remove { name },
                    _ => Write::Put {
                        name,
                        value: vec![1; usize::try_from(random(50)).unwrap()].into(),
                        aside: Bytes::new(),
                    },
                }
            })
            .collect();
        for write in &writes {
            filling.take(write).unwrap();
        }
        room = filling.room();
        writer.commit(writes).unwrap();
        assert_eq!(room, Room::of(&board), "seed {seed}, round {round}");
    }
}

#[tokio::test]
async fn limits_are_those_of_the_moment_and_what_is_there_stays() {
    let limits = Arc::<Live>::default();
    let (data, thread) = Data::start(writer(), Arc::clone(&limits));
    put(&data, "a", text(100)).await.unwrap();
    put(&data, "b", text(100)).await.unwrap();
    limits.set(Limits { values: 1, value_bytes: 50, ..Limits::default() });
    assert!(matches!(put(&data, "c", text(1)).await, Err(PutError::TooMany(1))));
    assert!(matches!(put(&data, "a", text(51)).await, Err(PutError::Value { bytes: 51, most: 50 })));
    put(&data, "a", text(50)).await.unwrap();
    limits.set(Limits { values_bytes: 10, ..Limits::default() });
    assert!(matches!(put(&data, "c", text(100)).await, Err(PutError::Full(10))));
    put(&data, "b", None).await.unwrap();
    limits.set(Limits::default());
    put(&data, "c", text(100)).await.unwrap();
    end(data, thread);
}

/// A hub that is started anew before so much has changed would else remember every removal for ever.
#[tokio::test]
async fn removals_are_forgotten_also_by_a_hub_that_is_started_anew_every_day() {
    let mut writer = writer();
    let name = |n: usize| Bytes::from(format!("{n:06}"));
    let one = |n| Write::Put { name: name(n), value: Bytes::from("x"), aside: Bytes::new() };
    let removed = TOMBSTONES_MIN + 100;
    writer.commit((0..removed).map(one).collect()).unwrap();
    writer.commit((0..removed).map(|n| Write::Remove { name: name(n) }).collect()).unwrap();
    let (data, thread) = Data::start(writer, Arc::default());
    put(&data, "a", text(1)).await.unwrap();
    let board = end(data, thread);
    let tombstones = board.read(|index| index.since(0).filter(|record| record.value.is_none()).count());
    assert_eq!(tombstones, TOMBSTONES_MIN);
    assert!(board.get(&name(0)).is_none() && board.get(&name(removed - 1)).is_some(), "the oldest");
}

#[tokio::test]
async fn a_client_that_puts_faster_than_its_pace_is_slowed_down() {
    let limits = Arc::new(Live::new(Limits { puts_per_s: 10, ..Limits::default() }));
    let (data, thread) = Data::start(writer(), limits);
    let begun = std::time::Instant::now();
    let client = |id| Access::of(ClientId::new(id).unwrap(), &Rights::default());
    let (one, two) = (client(1), client(2));
    for _ in 0..14 {
        data.put(Bytes::from("a"), text(1), &one).await.unwrap();
    }
    // Ten at once, and a tenth of a second for each further one.
    assert!(begun.elapsed() >= Duration::from_millis(350), "{:?}", begun.elapsed());
    // Another client, and the hub's own machine, are not held up by the one that is.
    let slow = data.put(Bytes::from("a"), text(1), &one);
    let others = async {
        data.put(Bytes::from("b"), text(1), &two).await.unwrap();
        put(&data, "b", text(1)).await.unwrap();
    };
    tokio::select! {
        biased;
        done = slow => panic!("{done:?} before the others"),
        () = others => {}
    }
    end(data, thread);
}
