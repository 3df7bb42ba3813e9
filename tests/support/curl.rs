//! The real curl, and what it was answered.

use std::io::Write;
use std::process::{Command, Stdio};

use serde_json::Value;

use super::{installed, skip};

/// What an answer was.
#[derive(Debug)]
pub struct Answer {
    /// The status code; 0 without an answer.
    pub code: u16,
    /// Status line and header fields, in lower case.
    pub head: String,
    /// What came behind them.
    pub body: String,
}

impl Answer {
    /// The body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }

    /// The last answer in a text: what precedes it is `100 Continue`.
    pub fn parse(text: &str) -> Answer {
        let at = text.rfind("HTTP/1.1 ").unwrap_or_else(|| panic!("no answer: {text}"));
        let (head, body) = text[at..].split_once("\r\n\r\n").unwrap_or_else(|| panic!("no head: {text}"));
        let code = head[9..12].parse().unwrap();
        Answer { code, head: head.to_ascii_lowercase(), body: body.to_owned() }
    }
}

/// Whether curl is there; says so where it is not.
pub fn has_curl(test: &str) -> bool {
    let there = installed("curl");
    if !there {
        skip(test, "curl is not installed");
    }
    there
}

/// Runs curl with these arguments, a URL among them, and `body` as its standard input. Where it had no whole answer, the
/// code is 0 and the body says why.
pub fn curl(args: &[&str], body: &[u8]) -> Answer {
    let mut command = Command::new("curl");
    command.args(["-sS", "-i", "--http1.1", "-m", "30", "--noproxy", "*"]).args(args);
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let body = body.to_vec();
    let writer = std::thread::spawn(move || stdin.write_all(&body).ok());
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    if !output.status.success() {
        let why = String::from_utf8_lossy(&output.stderr).into_owned();
        return Answer { code: 0, head: String::new(), body: why };
    }
    Answer::parse(&String::from_utf8_lossy(&output.stdout))
}
