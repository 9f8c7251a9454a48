//! A server that takes requests and never answers them, until it is connected to again.

use std::io::Read;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::mpsc;
use std::thread;

use in_mem_ipc::codec::encode_response;
use in_mem_ipc::frame::{FrameKind, HEADER_LEN_BYTES, Header, parse_header};
use in_mem_ipc::hello::HelloReply;
use in_mem_ipc::request::DurabilityChoice;
use in_mem_ipc::{FrameBuffer, Response};

/// What the server met.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Met {
    /// A request, which is not answered.
    Request,
    /// The end of the connection that was not answered.
    End,
}

/// Listens; the first connection gets no answer, the later ones are told that all is done.
pub(crate) fn listen(socket: &Path) -> mpsc::Receiver<Met> {
    let listener = UnixListener::bind(socket).unwrap();
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        for (count, stream) in listener.incoming().enumerate() {
            let (stream, sender) = (stream.unwrap(), sender.clone());
            thread::spawn(move || serve(stream, (count == 0).then_some(&sender)));
        }
    });
    receiver
}

/// Serves one connection: tells `met` and does not answer, or answers.
fn serve(mut stream: UnixStream, met: Option<&mpsc::Sender<Met>>) {
    while let Some(header) = read_frame(&mut stream) {
        let mut frame = FrameBuffer::new();
        match (header.kind, met) {
            (FrameKind::Hello, _) => greeting().encode(&mut frame).unwrap(),
            (_, Some(met)) => met.send(Met::Request).unwrap(),
            (_, None) => encode_response(&Response::Done, header.request_id, &mut frame).unwrap(),
        }
        // A client that is gone is for the test to notice.
        let _ = std::io::Write::write_all(&mut stream, &frame);
    }
    if let Some(met) = met {
        // The test may be over.
        let _ = met.send(Met::End);
    }
}

/// Takes one frame off; none at the end.
fn read_frame(stream: &mut UnixStream) -> Option<Header> {
    let mut header = [0; HEADER_LEN_BYTES];
    stream.read_exact(&mut header).ok()?;
    let header = parse_header(&header).unwrap().unwrap();
    let mut body = vec![0; header.frame_len_bytes() as usize - HEADER_LEN_BYTES];
    stream.read_exact(&mut body).ok()?;
    Some(header)
}

fn greeting() -> HelloReply {
    HelloReply {
        protocol_version: 1,
        encoding: 0,
        server_version: "0.1.0".to_owned(),
        features: Vec::new(),
        run_id: [0; 16],
        durability: DurabilityChoice::Strict,
        durability_modes: vec![DurabilityChoice::Strict],
        operations: Vec::new(),
        limits: Vec::new(),
        registered_at: None,
    }
}
