//! A simulated arm that plays a server's chunks: `cargo run --example arm -- ws://127.0.0.1:8000 "fold the towel" [SECONDS]`.
//!
//! The server's first message says which robot it serves: cameras, state, rate and joints are taken from there, so any
//! checkpoint behind `pioxide serve` will do. The loop ticks at the robot's rate and never waits: a thread asks the server,
//! and what reaches the joints passes the action queue and the safety filter. The cameras of this arm see nothing.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use pioxide_client::{Client, Left, Observation, Options, Value};
use pioxide_core::{ActionQueue, Limits, OnEmpty, SafetyFilter, Taken};

const SIDE: usize = 224;

/// The robot that a server says it is for.
struct Robot {
    cameras: Vec<String>,
    /// Keys of the state's parts, and how many numbers each has.
    state: Vec<(String, usize)>,
    prompt: String,
    hz: f64,
    horizon: usize,
    dim: usize,
}

impl Robot {
    /// Reads what `metadata` says; nothing where the server says nothing, as openpi's own.
    fn served(metadata: &Value) -> Option<Self> {
        let told = get(metadata, "pioxide")?;
        let shape = get(get(get(told, "answer")?, "actions")?, "shape")?.as_array()?;
        let (horizon, dim) = (size(shape.first()?)?, size(shape.get(1)?)?);
        let hz = get(told, "hz").and_then(Value::as_f64).unwrap_or(50.0);
        let mut robot = Self { cameras: vec![], state: vec![], prompt: "prompt".into(), hz, horizon, dim };
        for (key, what) in get(get(told, "observation")?, "properties")?.as_map()? {
            let key = key.as_str()?.to_owned();
            if get(what, "type")?.as_str()? == "string" {
                robot.prompt = key;
            } else if get(what, "slot").is_some() {
                robot.cameras.push(key);
            } else {
                let numbers = size(get(what, "shape")?.as_array()?.first()?)?;
                robot.state.push((key, numbers));
            }
        }
        Some(robot)
    }

    /// What the arm sees: black pictures, and its joints as the state's first numbers.
    fn observation(&self, joints: &[f64], words: &str) -> Result<Observation, pioxide_client::Error> {
        let (mut seen, picture) = (Observation::new(), vec![0; SIDE * SIDE * 3]);
        for key in &self.cameras {
            seen.image(key, SIDE, SIDE, &picture)?;
        }
        let mut rest = joints.iter().copied().chain(std::iter::repeat(0.0));
        for (key, numbers) in &self.state {
            let part: Vec<f64> = rest.by_ref().take(*numbers).collect();
            seen.numbers(key, &part);
        }
        seen.text(&self.prompt, words);
        Ok(seen)
    }
}

fn get<'a>(value: &'a Value, key: &str) -> Option<&'a Value> {
    value.as_map()?.iter().find(|(name, _)| name.as_str() == Some(key)).map(|(_, found)| found)
}

fn size(value: &Value) -> Option<usize> {
    usize::try_from(value.as_u64()?).ok()
}

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
    let words = arguments.next().unwrap_or_else(|| "hold still".into());
    let seconds: f64 = arguments.next().map_or(Ok(2.0), |text| text.parse())?;
    let options = Options { timeout: Duration::from_secs(5), key: std::env::var("PIOXIDE_KEY").ok() };
    let client = Client::connect(&uri, options)?;
    let robot = Robot::served(client.metadata()).ok_or("the server does not say which robot it is for")?;
    let (hz, dim, replan_below) = (robot.hz, robot.dim, robot.horizon / 2);
    let (ask, asked) = channel();
    let (answer, answers) = channel();
    thread::spawn(move || asks(client, &robot, &words, &asked, &answer));
    let limits = Limits { low: &[-3.0], high: &[3.0], velocity: &[2.0], acceleration: &[20.0] };
    let mut safety = SafetyFilter::new(dim, hz, &limits)?;
    let mut queue = ActionQueue::new(dim, 200, OnEmpty::Hold)?;
    let (mut joints, mut action) = (vec![0.0; dim], vec![0.0; dim]);
    safety.reset(&joints)?;
    let (mut waiting, mut fresh, mut held) = (false, 0, 0);
    let start = Instant::now();
    for tick in 0..(seconds * hz) as u32 {
        if let Ok(Answer { actions, since }) = answers.try_recv() {
            queue.put(&actions, since)?;
            waiting = false;
        }
        if !waiting && queue.remaining() <= replan_below {
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
            (start + Duration::from_secs_f64(f64::from(tick + 1) / hz))
                .saturating_duration_since(Instant::now()),
        );
    }
    println!("{fresh} fresh actions, {held} held, joints {joints:?}");
    Ok(())
}

/// Asks the server, one request after another.
fn asks(mut client: Client, robot: &Robot, words: &str, asked: &Receiver<Ask>, answers: &Sender<Answer>) {
    for Ask { joints, left, consumed } in asked {
        let seen = match robot.observation(&joints, words) {
            Ok(seen) => seen,
            Err(error) => return eprintln!("{error}"),
        };
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
