//! One robot's connection.

use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use rmpv::Value;
use tungstenite::client::{IntoClientRequest, client_with_config};
use tungstenite::handshake::client::Request;
use tungstenite::http::{HeaderValue, Uri};
use tungstenite::protocol::WebSocketConfig;
use tungstenite::{Message, WebSocket};

use crate::wire::{Left, Observation, floats, get, matrix, read};
use crate::{Error, Result};

/// Answers are small; a server that sends more is none of ours.
const MOST_BYTES: usize = 64 << 20;
const PROTOCOL: u64 = 1;

/// How to connect.
#[derive(Debug, Clone)]
pub struct Options {
    /// Time after which a connection or an answer is given up.
    pub timeout: Duration,
    /// One of the server's keys.
    pub key: Option<String>,
}

/// An answer: actions `[horizon, dim]` in the robot's units, row 0 belongs to the observation. All are finite.
#[derive(Debug, Clone, PartialEq)]
pub struct Chunk {
    /// Row after row.
    pub actions: Vec<f64>,
    /// H.
    pub horizon: usize,
    /// D.
    pub dim: usize,
}

/// One robot's connection to a server, pioxide's or openpi's.
#[derive(Debug)]
pub struct Client {
    socket: WebSocket<TcpStream>,
    metadata: Value,
    extended: bool,
    shape: Option<(usize, usize)>,
    requests: u64,
    generation: u64,
    usable: bool,
}

impl Client {
    /// Connects to `ws://HOST:PORT` and reads what the server says of itself.
    ///
    /// # Errors
    /// [`Error::Closed`] where nobody answers or the server lets nobody in, [`Error::Protocol`] where what answers is no
    /// policy server, [`Error::Argument`] for an address that is none.
    pub fn connect(uri: &str, options: Options) -> Result<Self> {
        let argument = |why: String| Error::Argument(format!("{uri}: {why}"));
        let parsed: Uri = uri.parse().map_err(|error| argument(format!("{error}")))?;
        if parsed.scheme_str() != Some("ws") {
            return Err(argument("expected ws://HOST:PORT; put a TLS tunnel before it for wss".into()));
        }
        let mut request: Request = uri.into_client_request().map_err(|error| argument(error.to_string()))?;
        if let Some(key) = &options.key {
            let value =
                HeaderValue::from_str(&format!("Api-Key {key}")).map_err(|e| argument(e.to_string()))?;
            request.headers_mut().insert("Authorization", value);
        }
        let stream = reached(&parsed, options.timeout)?;
        let config =
            WebSocketConfig::default().max_message_size(Some(MOST_BYTES)).max_frame_size(Some(MOST_BYTES));
        let (mut socket, _) = client_with_config(request, stream, Some(config))
            .map_err(|error| Error::Closed(format!("{uri}: {error}")))?;
        let Message::Binary(first) = socket.read().map_err(lost)? else {
            return Err(Error::Protocol("its first message is no bytes".into()));
        };
        let metadata = read(&first)?;
        if metadata.as_map().is_none() {
            return Err(Error::Protocol("its first message is no map".into()));
        }
        let own = get(&metadata, "pioxide");
        let protocol = own.map(|own| get(own, "protocol").and_then(Value::as_u64));
        if protocol.is_some_and(|protocol| protocol != Some(PROTOCOL)) {
            return Err(Error::Protocol(format!("protocol {protocol:?}, and this client speaks {PROTOCOL}")));
        }
        let shape = own.and_then(announced);
        let extended = own.is_some();
        Ok(Self { socket, metadata, extended, shape, requests: 0, generation: 0, usable: true })
    }

    /// What the server said of itself: the contract and a schema under `pioxide`, less from an openpi server.
    #[must_use]
    pub fn metadata(&self) -> &Value {
        &self.metadata
    }

    /// Asks for a chunk.
    ///
    /// # Errors
    /// [`Error::Refused`] leaves the connection good; after any other error connect again.
    pub fn infer(&mut self, observation: &Observation) -> Result<Chunk> {
        self.continued(observation, None)
    }

    /// Asks for a chunk that continues what is left to play; a server that does not continue chunks gives a fresh one.
    ///
    /// # Errors
    /// As [`Client::infer`]; [`Error::Argument`] for a leftover that is not `[n, D]`.
    pub fn continued(&mut self, observation: &Observation, left: Option<Left<'_>>) -> Result<Chunk> {
        if !self.usable {
            return Err(Error::Closed("this connection failed before; connect again".into()));
        }
        let added = if self.extended { Some(self.added(left)?) } else { None };
        self.requests += 1;
        let message = observation.message(added)?;
        self.usable = false;
        self.socket.send(Message::Binary(message.into())).map_err(lost)?;
        let answer = loop {
            match self.socket.read().map_err(lost)? {
                Message::Text(said) => {
                    self.usable = true;
                    return Err(Error::Refused { code: String::new(), message: said.to_string() });
                }
                Message::Binary(bytes) => break read(&bytes)?,
                Message::Close(_) => return Err(Error::Closed("the server closed the connection".into())),
                _ => {}
            }
        };
        let chunk = self.checked(&answer);
        self.usable = matches!(chunk, Ok(_) | Err(Error::Refused { .. }));
        chunk
    }

    /// Begins a new episode: the server forgets the last answer, and refuses what is older.
    pub fn reset(&mut self) {
        self.generation += 1;
    }

    fn added(&self, left: Option<Left<'_>>) -> Result<Vec<(Value, Value)>> {
        let mut added: Vec<(Value, Value)> = vec![
            ("request".into(), (self.requests + 1).into()),
            ("generation".into(), self.generation.into()),
        ];
        if let (Some(left), Some((_, dim))) = (left, self.shape)
            && !left.actions.is_empty()
        {
            if left.actions.len() % dim != 0 {
                let got = left.actions.len();
                return Err(Error::Argument(format!("what is left: {got} numbers are no actions of {dim}")));
            }
            added.push(("left_over".into(), floats(left.actions, &[left.actions.len() / dim, dim])));
            added.push(("inference_delay".into(), left.inference_delay.into()));
        }
        Ok(added)
    }

    fn checked(&self, answer: &Value) -> Result<Chunk> {
        if self.extended {
            let number = |name| get(get(answer, "pioxide")?, name)?.as_u64();
            if number("request") != Some(self.requests) || number("generation") != Some(self.generation) {
                return Err(Error::Protocol("an answer to another request".into()));
            }
            if let Some(error) = get(answer, "pioxide").and_then(|own| get(own, "error")) {
                let text = |name| get(error, name).and_then(Value::as_str).unwrap_or_default().to_owned();
                return Err(Error::Refused { code: text("code"), message: text("message") });
            }
        }
        let (actions, horizon, dim) = get(answer, "actions")
            .and_then(matrix)
            .ok_or_else(|| Error::Protocol("an answer without finite actions [H, D]".into()))?;
        if self.shape.is_some_and(|shape| shape != (horizon, dim)) {
            let said = self.shape;
            return Err(Error::Protocol(format!(
                "{horizon} x {dim} actions, and the server had said {said:?}"
            )));
        }
        Ok(Chunk { actions, horizon, dim })
    }
}

/// The shape of actions that the server announced.
fn announced(own: &Value) -> Option<(usize, usize)> {
    let shape = get(get(get(own, "answer")?, "actions")?, "shape")?.as_array()?;
    let [horizon, dim] = &shape[..] else { return None };
    let (horizon, dim) = (horizon.as_u64()? as usize, dim.as_u64()? as usize);
    (horizon > 0 && dim > 0).then_some((horizon, dim))
}

fn reached(uri: &Uri, timeout: Duration) -> Result<TcpStream> {
    let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
    let port = uri.port_u16().unwrap_or(80);
    let closed = |why: String| Error::Closed(format!("{uri}: {why}"));
    let addresses = (host, port).to_socket_addrs().map_err(|error| closed(error.to_string()))?;
    let mut last = "no address".to_owned();
    for address in addresses {
        match TcpStream::connect_timeout(&address, timeout) {
            Ok(stream) => {
                let set = |_: ()| -> std::io::Result<()> {
                    stream.set_nodelay(true)?;
                    stream.set_read_timeout(Some(timeout))?;
                    stream.set_write_timeout(Some(timeout))
                };
                set(()).map_err(|error| closed(error.to_string()))?;
                return Ok(stream);
            }
            Err(error) => last = error.to_string(),
        }
    }
    Err(closed(last))
}

fn lost(error: tungstenite::Error) -> Error {
    use std::io::ErrorKind::{TimedOut, WouldBlock};
    match error {
        tungstenite::Error::Io(error) if matches!(error.kind(), TimedOut | WouldBlock) => Error::Timeout,
        error => Error::Closed(error.to_string()),
    }
}
