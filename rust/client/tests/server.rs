//! The client against a server of openpi's bytes in a thread: what it sends, what it takes, what it refuses.
#![allow(clippy::unwrap_used)]

use std::net::TcpListener;
use std::thread::{JoinHandle, spawn};
use std::time::Duration;

use pioxide_client::{Client, Error, Left, Observation, Options};
use tungstenite::Message;

/// `{"pioxide": {"protocol": 1, "answer": {"actions": {"shape": [2, 1]}}}}`
const OURS: &[u8] = b"\x81\xa7pioxide\x82\xa8protocol\x01\xa6answer\x81\xa7actions\x81\xa5shape\x92\x02\x01";
const EMPTY: &[u8] = b"\x80";

/// `actions` as openpi's server writes them: float64 [2, 1] of 0.5 and -2.0.
fn actions() -> Vec<u8> {
    let mut bytes = b"\xa7actions\x84\xc4\x0b__ndarray__\xc3\xc4\x04data\xc4\x10".to_vec();
    bytes.extend([0.5_f64.to_le_bytes(), (-2.0_f64).to_le_bytes()].concat());
    bytes.extend(b"\xc4\x05dtype\xa3<f8\xc4\x05shape\x92\x02\x01");
    bytes
}

fn answer(request: u8, generation: u8) -> Message {
    let mut bytes = b"\x82".to_vec();
    bytes.extend(actions());
    bytes.extend(b"\xa7pioxide\x82\xa7request");
    bytes.push(request);
    bytes.extend(b"\xaageneration");
    bytes.push(generation);
    Message::Binary(bytes.into())
}

fn plain() -> Message {
    Message::Binary([b"\x81".to_vec(), actions()].concat().into())
}

/// A server that says `first`, then answers each request with the next of `answers`; it gives what it was sent.
fn serve(first: &'static [u8], answers: Vec<Message>) -> (String, JoinHandle<Vec<Vec<u8>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let uri = format!("ws://{}", listener.local_addr().unwrap());
    let served = spawn(move || {
        let mut socket = tungstenite::accept(listener.accept().unwrap().0).unwrap();
        socket.send(Message::Binary(first.into())).unwrap();
        let mut seen = Vec::new();
        for answer in answers {
            let Ok(Message::Binary(request)) = socket.read() else { break };
            seen.push(request.to_vec());
            socket.send(answer).unwrap();
        }
        seen
    });
    (uri, served)
}

fn connect(uri: &str) -> Result<Client, Error> {
    Client::connect(uri, Options { timeout: Duration::from_secs(20), key: Some("a-key".into()) })
}

fn observation() -> Observation {
    let mut seen = Observation::new();
    seen.image("image", 1, 2, &[1, 2, 3, 4, 5, 6]).unwrap().numbers("state", &[0.25]).text("prompt", "lift");
    seen
}

#[test]
fn an_openpi_server_is_asked_in_its_bytes_and_nothing_else() {
    let (uri, served) = serve(EMPTY, vec![plain()]);
    let chunk = connect(&uri).unwrap().continued(&observation(), None).unwrap();
    assert_eq!((chunk.actions, chunk.horizon, chunk.dim), (vec![0.5, -2.0], 2, 1));
    let mut expected =
        b"\x83\xa5image\x84\xc4\x0b__ndarray__\xc3\xc4\x04data\xc4\x06\x01\x02\x03\x04\x05\x06".to_vec();
    expected.extend(b"\xc4\x05dtype\xa3|u1\xc4\x05shape\x93\x01\x02\x03");
    expected.extend(b"\xa5state\x84\xc4\x0b__ndarray__\xc3\xc4\x04data\xc4\x08");
    expected.extend(0.25_f64.to_le_bytes());
    expected.extend(b"\xc4\x05dtype\xa3<f8\xc4\x05shape\x91\x01\xa6prompt\xa4lift");
    assert_eq!(served.join().unwrap(), [expected]);
}

#[test]
fn a_pioxide_server_is_told_request_episode_and_leftover() {
    let (uri, served) = serve(OURS, vec![answer(1, 0), answer(2, 1)]);
    let mut client = connect(&uri).unwrap();
    client.infer(&observation()).unwrap();
    client.reset();
    let left = Left { actions: &[1.0, 2.0], inference_delay: 1 };
    assert_eq!(client.continued(&observation(), Some(left)).unwrap().horizon, 2);
    let sent = served.join().unwrap();
    let holds = |message: &[u8], part: &[u8]| message.windows(part.len()).any(|window| window == part);
    assert!(!holds(&sent[0], b"left_over"));
    assert!(holds(&sent[1], b"\xa7request\x02\xaageneration\x01\xa9left_over"));
    assert!(holds(&sent[1], b"\xafinference_delay\x01"));
}

#[test]
fn a_refusal_leaves_the_connection_good() {
    let refused = b"\x81\xa7pioxide\x83\xa7request\x01\xaageneration\x00\xa5error\x82\xa4code\xa4busy\xa7message\xa4wait";
    let (uri, served) = serve(
        OURS,
        vec![Message::Binary(refused.as_slice().into()), Message::Text("no".into()), answer(3, 0)],
    );
    let mut client = connect(&uri).unwrap();
    assert_eq!(client.infer(&observation()).unwrap_err().to_string(), "busy: wait");
    assert_eq!(client.infer(&observation()).unwrap_err().to_string(), "no");
    client.infer(&observation()).unwrap();
    served.join().unwrap();
}

#[test]
fn what_is_not_of_the_protocol_is_refused_and_ends_the_connection() {
    let odd = |bytes: &'static [u8]| Message::Binary(bytes.into());
    let another = answer(9, 0);
    for bad in [odd(b"\xc1"), odd(b"\x80"), odd(b"\x80\x80"), another, odd(&[0x91; 100]), plain()] {
        let (uri, served) = serve(OURS, vec![bad.clone()]);
        let mut client = connect(&uri).unwrap();
        assert!(matches!(client.infer(&observation()), Err(Error::Protocol(_))), "{bad:?}");
        assert!(matches!(client.infer(&observation()), Err(Error::Closed(_))));
        served.join().unwrap();
    }
    let (uri, served) = serve(b"\x01", vec![]);
    assert!(matches!(connect(&uri), Err(Error::Protocol(_))));
    served.join().unwrap();
    let (uri, served) = serve(b"\x81\xa7pioxide\x81\xa8protocol\x09", vec![]);
    assert!(matches!(connect(&uri), Err(Error::Protocol(_))));
    served.join().unwrap();
}

#[test]
fn a_server_that_is_not_there_or_does_not_answer_is_no_wait_without_end() {
    assert!(matches!(connect("ws://127.0.0.1:9"), Err(Error::Closed(_))));
    assert!(matches!(connect("http://127.0.0.1:9"), Err(Error::Argument(_))));
    assert!(matches!(connect("not an address"), Err(Error::Argument(_))));
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let uri = format!("ws://{}", listener.local_addr().unwrap());
    let silent = spawn(move || {
        let mut socket = tungstenite::accept(listener.accept().unwrap().0).unwrap();
        socket.send(Message::Binary(EMPTY.into())).unwrap();
        let _ = socket.read();
        let _ = socket.read(); // until the client has gone
    });
    let options = Options { timeout: Duration::from_millis(300), key: None };
    let mut client = Client::connect(&uri, options).unwrap();
    assert!(matches!(client.infer(&observation()), Err(Error::Timeout)));
    drop(client);
    silent.join().unwrap();
}

#[test]
fn arguments_of_another_shape_are_refused_before_they_are_sent() {
    assert!(Observation::new().image("image", 2, 2, &[0; 11]).is_err());
    assert!(Observation::new().image("image", usize::MAX, 2, &[]).is_err());
    let (uri, served) = serve(OURS, vec![answer(1, 0)]);
    let mut client = connect(&uri).unwrap();
    client.infer(&observation()).unwrap();
    served.join().unwrap();
}
