//! The header fields of every request. Values may be secrets, which are read when the sink starts and again after
//! the receiver has refused them, so that a token that was replaced takes effect.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};

use crate::config::{ClientAuthOptions, Environment, Secret};

/// Where a field's value comes from.
#[derive(Debug, Clone)]
enum Value {
    Given(HeaderName, Secret),
    Basic(String, Secret),
    Bearer(Secret),
}

/// See the module. Values are never shown.
#[derive(Clone)]
pub struct Headers {
    fixed: HeaderMap,
    values: Vec<Value>,
    resolved: Arc<Mutex<Option<Arc<HeaderMap>>>>,
}

impl fmt::Debug for Headers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.values.iter().map(Value::name)).finish()
    }
}

impl Headers {
    /// The `fixed` fields, which the configured ones replace.
    pub fn new(fixed: HeaderMap) -> Headers {
        Headers { fixed, values: Vec::new(), resolved: Arc::default() }
    }

    /// Adds a field.
    pub fn add(&mut self, name: HeaderName, value: Secret) {
        self.values.push(Value::Given(name, value));
    }

    /// Adds the `authorization` field.
    pub fn add_auth(&mut self, auth: &ClientAuthOptions) {
        if let Some(basic) = &auth.basic {
            self.values.push(Value::Basic(basic.user.clone(), basic.password.clone()));
        }
        if let Some(token) = &auth.bearer {
            self.values.push(Value::Bearer(token.clone()));
        }
    }

    /// Sets a field whose value is no secret, where the configuration does not.
    pub fn set_default(&mut self, name: HeaderName, value: HeaderValue) {
        self.fixed.insert(name, value);
    }

    /// All fields. Reads files on a blocking thread, and only when they must be read (again).
    ///
    /// # Errors
    /// Which secret cannot be used and why, without its text.
    pub async fn resolve(&self) -> Result<Arc<HeaderMap>, String> {
        if let Some(known) = self.lock().clone() {
            return Ok(known);
        }
        let this = self.clone();
        let read = tokio::task::spawn_blocking(move || this.read()).await.map_err(|e| e.to_string())?;
        let headers = Arc::new(read?);
        *self.lock() = Some(headers.clone());
        Ok(headers)
    }

    /// The receiver does not accept these: they are read anew for the next request.
    pub fn forget(&self) {
        *self.lock() = None;
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Arc<HeaderMap>>> {
        self.resolved.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read(&self) -> Result<HeaderMap, String> {
        let environment = Environment::from_process();
        let mut headers = self.fixed.clone();
        for value in &self.values {
            let text = value.text(&environment)?;
            let mut field = HeaderValue::from_str(&text)
                .map_err(|_| format!("the value of the header {} holds a control character", value.name()))?;
            field.set_sensitive(true);
            headers.insert(value.name(), field);
        }
        Ok(headers)
    }
}

impl Value {
    fn name(&self) -> &HeaderName {
        match self {
            Value::Given(name, _) => name,
            Value::Basic(..) | Value::Bearer(_) => &AUTHORIZATION,
        }
    }

    fn text(&self, environment: &Environment) -> Result<String, String> {
        let secret = |secret: &Secret| secret.resolve(environment);
        Ok(match self {
            Value::Given(_, value) => secret(value)?.expose().to_owned(),
            Value::Basic(user, password) => {
                format!("Basic {}", STANDARD.encode(format!("{user}:{}", secret(password)?.expose())))
            }
            Value::Bearer(token) => format!("Bearer {}", secret(token)?.expose()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ClientBasicOptions;

    #[tokio::test]
    async fn secrets_are_read_again_after_a_refusal_and_never_shown() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("token");
        std::fs::write(&file, "one\n").unwrap();
        let place = crate::config::Node::table([("file", file.to_str().unwrap().into())]);
        let mut diags = crate::config::Diagnostics::new();
        let secret = crate::config::FromNode::from_node(&place, &crate::config::Path::root(), &mut diags);
        let mut headers = Headers::new(HeaderMap::new());
        headers.set_default(HeaderName::from_static("x-key"), HeaderValue::from_static("default"));
        headers.add(HeaderName::from_static("x-key"), secret.unwrap());
        let password = Secret::literal("open sesame");
        let basic = Some(ClientBasicOptions { user: "Aladdin".into(), password });
        headers.add_auth(&ClientAuthOptions { basic, bearer: None });
        let all = headers.resolve().await.unwrap();
        assert_eq!(all["authorization"], "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==", "RFC 7617's example");
        std::fs::write(&file, "two\n").unwrap();
        assert_eq!(headers.resolve().await.unwrap()["x-key"], "one");
        headers.forget();
        assert_eq!(headers.resolve().await.unwrap()["x-key"], "two");
        assert!(!format!("{headers:?} {all:?}").contains("QWx"), "{headers:?} {all:?}");
        std::fs::remove_file(&file).unwrap();
        headers.forget();
        assert!(headers.resolve().await.unwrap_err().contains("token"));
    }
}
