//! Who `weir status`, `weir health` and `weir tail` are where a server asks: a login in the URL, a token or a certificate in files.
//! Nothing of it is ever shown.

use std::fmt;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use clap::Args;

use super::control::SocketArgs;
use super::exit::{Exit, Failure};
use super::http_get::Base;
use crate::net::query_string;

/// The longest token file that is read, in bytes.
const TOKEN_BYTES_MAX: u64 = 8192;

/// Whom to ask, and as whom.
#[derive(Debug, Default, Clone, Args)]
pub struct AskArgs {
    /// Where it listens; may hold a login: http://USER:PASSWORD@HOST:PORT
    pub url: Option<String>,
    #[command(flatten)]
    #[expect(missing_docs, reason = "the docs of flattened arguments would become help text")]
    pub who: Credentials,
    #[command(flatten)]
    #[expect(missing_docs, reason = "as above")]
    pub local: SocketArgs,
}

impl AskArgs {
    /// Whether neither a URL nor a login was given.
    pub(super) fn is_anybody(&self) -> bool {
        let Credentials { token_file, cert, ca_file, .. } = &self.who;
        self.url.is_none() && token_file.is_none() && cert.is_none() && ca_file.is_none()
    }
}

/// As whom to ask, and whom to believe.
#[derive(Debug, Default, Clone, Args)]
pub struct Credentials {
    /// File with the token to send, where the server asks for one
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// Certificate to show, in PEM, where the server asks for one
    #[arg(long, value_name = "FILE", requires = "key")]
    pub cert: Option<PathBuf>,
    /// Private key of the certificate, in PEM
    #[arg(long, value_name = "FILE", requires = "cert")]
    pub key: Option<PathBuf>,
    /// Certificates of the authorities to believe, in PEM, instead of this machine's
    #[arg(long, value_name = "FILE")]
    pub ca_file: Option<PathBuf>,
}

impl Credentials {
    /// `base`, asked as these say.
    ///
    /// # Errors
    /// When a file cannot be used, or is given for a URL that has no use for it.
    pub fn on(&self, mut base: Base) -> Result<Base, Failure> {
        if let Some(file) = &self.token_file {
            base = base.as_user(Login::of_token_file(file)?);
        }
        if let Some(file) = &self.ca_file {
            base = base.believing(file.clone())?;
        }
        match (&self.cert, &self.key) {
            (Some(certificate), Some(key)) => base.showing(certificate.clone(), key.clone()),
            _ => Ok(base),
        }
    }
}

/// What goes into the header `Authorization`.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Login(Option<String>);

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "***" } else { "none" })
    }
}

impl Login {
    /// The line of the header, if there is one.
    pub(super) fn header_line(&self) -> String {
        self.0.as_ref().map_or_else(String::new, |value| format!("Authorization: {value}\r\n"))
    }

    /// The login `user:password` of a URL, percent-encoded where that is needed.
    pub(super) fn of_userinfo(userinfo: &str) -> Result<Login, String> {
        let (user, password) = userinfo.split_once(':').unwrap_or((userinfo, ""));
        let (user, password) = (query_string::component(user)?, query_string::component(password)?);
        if user.is_empty() || user.contains(':') {
            return Err("a user's name is not empty and holds no colon".to_owned());
        }
        Ok(Login(Some(format!("Basic {}", STANDARD.encode(format!("{user}:{password}"))))))
    }

    /// The token in a file.
    pub(super) fn of_token_file(path: &Path) -> Result<Login, Failure> {
        let read = || {
            use std::io::Read;
            let mut text = String::new();
            std::fs::File::open(path)?.take(TOKEN_BYTES_MAX).read_to_string(&mut text)?;
            Ok::<_, std::io::Error>(text)
        };
        let failed = |why: &str| {
            Failure::new(Exit::NO_INPUT, format!("cannot use the token file {}: {why}", path.display()))
                .hint("it holds the token that `weir hash --token` printed, and nothing else")
        };
        let text = read().map_err(|e| failed(&e.to_string()))?;
        let token = text.trim();
        if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(failed("it holds no token"));
        }
        Ok(Login(Some(format!("Bearer {token}"))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logins_are_sent_and_never_shown() {
        let login = Login::of_userinfo("ann:p%40ss%3Aword").unwrap();
        assert_eq!(
            login.header_line(),
            format!("Authorization: Basic {}\r\n", STANDARD.encode("ann:p@ss:word"))
        );
        assert_eq!(format!("{login:?} {:?}", Login::default()), "*** none");
        assert_eq!(Login::default().header_line(), "");
        for wrong in ["", ":x", "a%3ab:x", "a:%zz"] {
            assert!(Login::of_userinfo(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_token_file_holds_one_token() {
        let file = tempfile::NamedTempFile::new().unwrap();
        for (text, line) in
            [("t0ken\n", Some("Authorization: Bearer t0ken\r\n")), ("", None), ("a\nHost: x", None)]
        {
            std::fs::write(file.path(), text).unwrap();
            assert_eq!(Login::of_token_file(file.path()).ok().map(|l| l.header_line()).as_deref(), line);
        }
        assert!(Login::of_token_file(Path::new("/nonexistent")).is_err());
    }
}
