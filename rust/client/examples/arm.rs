//! A simulated arm that plays a server's chunks: `cargo run --example arm -- ws://127.0.0.1:8000 [SECONDS]`.
//!
//! The loop ticks 50 times a second and never waits: a thread asks the server, and what reaches the joints passes the
//! action queue and the safety filter. The server's policy must be of a robot whose observation is `image`, `state` and
//! `prompt`.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use pioxide_client::{Client, Left, Observation, Options};
use pioxide_core::{ActionQueue, Limits, OnEmpty, SafetyFilter, Taken};

const HZ: f64 = 50.0;
const SIDE: usize = 64;

struct Ask {
    joints: Vec<f64>,
    left: Vec<f64>,
    consumed: f64,
}

struct Answer {
    actions: Vec<f64>,
    since: f64,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let uri = arguments.next().unwrap_or_else(|| "ws://127.0.0.1:8000".into());
    let seconds: f64 = arguments.next().map_or(Ok(2.0), |text| text.parse())?;
    let options = Options { timeout: Duration::from_secs(5), key: std::env::var("PIOXIDE_KEY").ok() };
    let client = Client::connect(&uri, options)?;
    let (ask, asked) = channel();
    let (answer, answers) = channel();
    let dim = 3;
    thread::spawn(move || asks(client, &asked, &answer));
    let limits = Limits { low: &[-3.0], high: &[3.0], velocity: &[2.0], acceleration: &[20.0] };
    let mut safety = SafetyFilter::new(dim, HZ, &limits)?;
    let mut queue = ActionQueue::new(dim, 200, OnEmpty::Hold)?;
    let (mut joints, mut action) = (vec![0.5; dim], vec![0.0; dim]);
    safety.reset(&joints)?;
    let (mut waiting, mut fresh, mut held) = (false, 0, 0);
    let start = Instant::now();
    for tick in 0..(seconds * HZ) as u32 {
        if let Ok(Answer { actions, since }) = answers.try_recv() {
            queue.put(&actions, since)?;
            waiting = false;
        }
        if !waiting && queue.remaining() < 3 {
            let left = queue.leftover().to_vec();
            ask.send(Ask { joints: joints.clone(), left, consumed: queue.consumed() })?;
            waiting = true;
        }
        match queue.take(&mut action)? {
            Taken::Nothing => safety.hold(),
            taken => {
                safety.apply(&action, &mut joints)?; // the simulated joints go where they are told
                fresh += u32::from(taken == Taken::Fresh);
                held += u32::from(taken == Taken::Held);
            }
        }
        thread::sleep(
            (start + Duration::from_secs_f64(f64::from(tick + 1) / HZ))
                .saturating_duration_since(Instant::now()),
        );
    }
    println!("{fresh} fresh actions, {held} held, joints {joints:?}");
    Ok(())
}

/// Asks the server, one request after another.
fn asks(mut client: Client, asked: &Receiver<Ask>, answers: &Sender<Answer>) {
    let image = vec![0; SIDE * SIDE * 3];
    for Ask { joints, left, consumed } in asked {
        let mut seen = Observation::new();
        if seen.image("image", SIDE, SIDE, &image).is_err() {
            return;
        }
        seen.numbers("state", &joints).text("prompt", "hold still");
        let left = Left { actions: &left, inference_delay: 1 };
        match client.continued(&seen, Some(left)) {
            Ok(chunk) => {
                if answers.send(Answer { actions: chunk.actions, since: consumed }).is_err() {
                    return;
                }
            }
            Err(error) => return eprintln!("{error}"),
        }
    }
}
