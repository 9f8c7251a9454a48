//! Checks of the socket and of whoever listens there.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use in_mem_ipc::codec::{access_response, encode_request};
use in_mem_ipc::frame::{Frame, FrameKind, parse_frame};
use in_mem_ipc::hello::{Hello, HelloReply};
use in_mem_ipc::response::observe::{HealthReport, HealthState};
use in_mem_ipc::{FrameBuffer, Operation, Request, RequestHeader, Response};
use rustix::fs::{AtFlags, CWD, FileType, statat};
use rustix::io::Errno;

use super::{Check, Grade};
use crate::health::state_name;

/// How long a daemon may take to answer.
const ANSWER_WAIT: Duration = Duration::from_secs(5);

/// Largest answer that is read, bytes.
const ANSWER_LEN_BYTES_MAX: usize = 1 << 20;

pub(super) fn checks(path: &Path, client_version: &str) -> Vec<Check> {
    let name = "socket";
    let shown = path.display();
    let found = match statat(CWD, path, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(found) => found,
        Err(Errno::NOENT) => {
            let text = format!("{shown} does not exist: no daemon runs");
            return vec![Check::ok(name, text)];
        }
        Err(errno) => {
            let text = format!("{shown} cannot be looked at: {errno}");
            return vec![Check::fail(name, text, "let this user enter its directory")];
        }
    };
    if FileType::from_raw_mode(found.st_mode) != FileType::Socket {
        let text = format!("{shown} is not a socket");
        let advice = "move it away, or name another path";
        return vec![Check::fail(name, text, advice)];
    }
    match greet(path) {
        Ok((reply, report)) => {
            let mode = found.st_mode & 0o777;
            let text = format!("{shown} answers, mode {mode:04o}");
            let reached = if mode & 0o007 == 0 {
                Check::ok(name, text)
            } else {
                Check::warn(name, text, "everyone may connect: chmod o-rwx")
            };
            let version = version(&reply.server_version, client_version);
            let mut checks = vec![reached, version];
            checks.extend(report.as_ref().map(health));
            checks
        }
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            let text = format!("{shown} is stale: nobody listens there");
            let advice = "start the daemon: it replaces a stale socket of its own user";
            vec![Check::warn(name, text, advice)]
        }
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            let text = format!("{shown} may not be used by this user");
            let advice = "set socket_mode and socket_group, and list the user in [access]";
            vec![Check::fail(name, text, advice)]
        }
        Err(error) => {
            let text = format!("{shown} does not answer: {error}");
            let advice = "look at the log of the daemon; inmem health asks it what is wrong";
            vec![Check::fail(name, text, advice)]
        }
    }
}

pub(super) fn version(server: &str, client: &str) -> Check {
    let name = "version";
    if server == client {
        return Check::ok(name, format!("client and daemon are {server}"));
    }
    let found = format!("the daemon is {server}, this client {client}");
    Check::warn(
        name,
        found,
        "restart the daemon with the build of its clients",
    )
}

/// What a daemon says of itself, by the same function as everywhere else.
pub(super) fn health(report: &HealthReport<'static>) -> Check {
    let name = "health";
    let state = state_name(report.state);
    let grade = match report.state {
        HealthState::Ok => return Check::ok(name, format!("the daemon is {state}")),
        HealthState::Draining | HealthState::Degraded => Grade::Warn,
        HealthState::Poisoned | HealthState::ReadOnly => Grade::Fail,
    };
    let reasons: Vec<&str> = report.faults.iter().map(|fault| &*fault.reason.0).collect();
    let found = format!("the daemon is {state}: {}", reasons.join("; "));
    let advice = "do what the reason says; inmem health tells when it is over";
    Check {
        grade,
        ..Check::warn(name, found, advice)
    }
}

/// Greets a daemon, and asks how it is; it may be too old to say.
fn greet(path: &Path) -> io::Result<(HelloReply, Option<HealthReport<'static>>)> {
    let mut stream = UnixStream::connect(path)?;
    stream.set_read_timeout(Some(ANSWER_WAIT))?;
    stream.set_write_timeout(Some(ANSWER_WAIT))?;
    let mut hello = FrameBuffer::new();
    let greeting = Hello::default().encode(&mut hello);
    greeting.map_err(|error| invalid(&error.to_string()))?;
    stream.write_all(&hello)?;
    let reply = read_frame(&mut stream, |frame| match frame.header.kind {
        FrameKind::HelloReply => HelloReply::decode(frame.body).ok(),
        _ => None,
    })?;
    let mut request = FrameBuffer::new();
    let asked = Request {
        header: RequestHeader::default(),
        operation: Operation::SystemHealth,
    };
    encode_request(&asked, 1, &mut request).map_err(|error| invalid(&error.to_string()))?;
    stream.write_all(&request)?;
    let report = read_frame(&mut stream, |frame| {
        let response = access_response(frame.body).ok()?;
        match Response::from_archived(response).ok()? {
            Response::Health(report) => Some(report),
            _ => None,
        }
    });
    Ok((reply, report.ok()))
}

/// The next frame, as far as it is one that is wanted.
fn read_frame<T>(
    stream: &mut UnixStream,
    wanted: impl FnOnce(&Frame<'_>) -> Option<T>,
) -> io::Result<T> {
    let mut answer = FrameBuffer::new();
    let mut part = [0; 4096];
    while answer.len() < ANSWER_LEN_BYTES_MAX {
        let count = stream.read(&mut part)?;
        answer.extend_from_slice(part.get(..count).unwrap_or_default());
        let frame = parse_frame(&answer).map_err(|error| invalid(&error.to_string()))?;
        match frame {
            Some(frame) => return wanted(&frame).ok_or_else(|| invalid("it refuses this client")),
            None if count == 0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            None => {}
        }
    }
    Err(invalid("its answer is too long"))
}

fn invalid(reason: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason.to_owned())
}
