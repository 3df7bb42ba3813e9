//! A real Chromium, driven through chromedriver: opens a page of weir, runs scripts in it, presses keys, and at the end
//! looks at what the console said. Scripts see the page's own modules: an `import` of a module gives the same one.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use fantoccini::{Client, ClientBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use serde_json::{Value, json};
use tokio::sync::{Mutex, MutexGuard};

use super::weir::Weir;
use super::{PATIENCE, eventually, free_port, http, installed, skip};
use logweir::base::clock;

/// One browser at a time: each takes much memory and a core.
static ONE: Mutex<()> = Mutex::const_new(());

/// Scripts may take as long as anything else.
const POLL: Duration = Duration::from_millis(50);

/// A pipeline `app` from `in.log` to the page.
pub const FILE: &str = r#"
[[pipelines]]
name = "app"
sources = [{ type = "file", path = "DIR/in.log" }]
sinks = [{ type = "http" }]
"#;

/// An address of a weir.
pub fn url(weir: &Weir, path: &str) -> String {
    format!("http://{}{path}", weir.authority())
}

/// A browser with one window. Ended when dropped.
pub struct Browser {
    client: Client,
    driver: Child,
    port: u16,
    session: String,
    _turn: MutexGuard<'static, ()>,
}

/// Whether there is a browser; says so where there is none.
pub fn browser_is_there(test: &str) -> bool {
    let there = installed("chromedriver") && installed("chromium");
    if !there {
        skip(test, "chromium and chromedriver are not installed (Debian: chromium chromium-driver)");
    }
    there
}

impl Browser {
    /// A browser with a window of this size.
    pub async fn open(width: u32, height: u32) -> Browser {
        let turn = ONE.lock().await;
        let port = free_port();
        let mut driver = Command::new("chromedriver");
        driver.arg(format!("--port={port}")).stdout(Stdio::null()).stderr(Stdio::null());
        let driver = driver.spawn().unwrap();
        let ready = || http::request(&format!("127.0.0.1:{port}"), "GET", "/status", "").map(drop);
        eventually("chromedriver answers", ready);
        let args = json!([
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--enable-precise-memory-info",
            "--js-flags=--expose-gc",
            format!("--window-size={width},{height}"),
        ]);
        let capabilities = json!({
            "goog:chromeOptions": { "args": args },
            "goog:loggingPrefs": { "browser": "ALL" },
            "unhandledPromptBehavior": "dismiss",
        });
        let mut builder = ClientBuilder::new(HttpConnector::new());
        builder.capabilities(capabilities.as_object().unwrap().clone());
        let client = builder.connect(&format!("http://127.0.0.1:{port}")).await.unwrap();
        let session = client.session_id().await.unwrap().unwrap();
        Browser { client, driver, port, session, _turn: turn }
    }

    /// The client, for everything else.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Loads a page and waits until it is live.
    pub async fn load(&self, url: &str) {
        self.client.goto(url).await.unwrap();
        self.until("the page is live", "document.getElementById('state').textContent === 'live'").await;
    }

    /// The value of an expression in the page, which sees `page`, `filter`, `controls`, `tabs`, `status` and `$`.
    pub async fn value(&self, expression: &str) -> Value {
        self.try_value(expression).await.unwrap_or_else(|e| panic!("{e}\n{expression}"))
    }

    async fn try_value(&self, expression: &str) -> Result<Value, String> {
        let script = format!(
            "const done = arguments[arguments.length - 1];
             const main = performance.getEntriesByType('resource').find((one) => one.name.endsWith('/main.js')).name;
             const $ = (id) => document.getElementById(id);
             const load = (name) => import(main.replace('main.js', name));
             import(main).then(async ({{ page, filter, controls, keys, status, tabs }}) => ({expression}))
               .then((value) => done({{ value }}), (error) => done({{ error: String(error.stack ?? error) }}));"
        );
        let answer = self.client.execute_async(&script, Vec::new()).await.map_err(|e| e.to_string())?;
        match answer.get("error") {
            Some(error) => Err(error.to_string()),
            None => Ok(answer["value"].clone()),
        }
    }

    /// Waits until an expression in the page is true.
    pub async fn until(&self, what: &str, expression: &str) {
        let end = clock::now() + PATIENCE;
        loop {
            let now = self.try_value(expression).await;
            if now == Ok(Value::Bool(true)) {
                return;
            }
            if clock::now() > end {
                let shown = "document.body.innerText.slice(0, 3000)";
                let shown = self.try_value(shown).await.unwrap_or_default();
                panic!("waited in vain: {what}: {expression} is {now:?}; the page shows: {shown}");
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// The lines that the page shows, notes among them, in order.
    pub async fn shown(&self) -> Vec<String> {
        let lines = "Array.from({ length: page.view.count }, (_, at) => page.store.line[page.store.slot(page.view.at(at))])";
        serde_json::from_value(self.value(lines).await).unwrap()
    }

    /// Waits until the page shows so many rows.
    pub async fn rows(&self, count: usize) {
        self.until(&format!("{count} rows are shown"), &format!("page.view.count === {count}")).await;
    }

    /// The text of an element.
    pub async fn text(&self, id: &str) -> String {
        let value = self.value(&format!("$('{id}').innerText")).await;
        value.as_str().unwrap_or_default().to_owned()
    }

    /// Presses keys one after the other, wherever the focus is; U+E000 and on are the special ones of WebDriver.
    pub async fn press(&self, keys: &str) {
        let actions: Vec<Value> = keys
            .chars()
            .flat_map(|key| [("keyDown", key), ("keyUp", key)])
            .map(|(kind, key)| json!({ "type": kind, "value": key.to_string() }))
            .collect();
        let body = json!({ "actions": [{ "type": "key", "id": "keys", "actions": actions }] });
        self.command("/actions", &body);
    }

    /// Types into the filter, as a user would.
    pub async fn query(&self, text: &str) {
        let text = Value::from(text);
        self.value(&format!("($('q').value = {text}, $('q').dispatchEvent(new Event('input')), 0)")).await;
    }

    /// A command of the Chrome DevTools Protocol.
    pub fn devtools(&self, command: &str, params: &Value) -> Value {
        self.command("/goog/cdp/execute", &json!({ "cmd": command, "params": params }))
    }

    /// A window of another size, as if on a phone or a desk.
    pub fn resize(&self, width: u32, height: u32) {
        let metrics =
            json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 700 });
        self.devtools("Emulation.setDeviceMetricsOverride", &metrics);
    }

    /// What was written to the console since the last call: `LEVEL text`.
    pub fn console(&self) -> Vec<String> {
        let entries = self.command("/se/log", &json!({ "type": "browser" }));
        let said = |entry: &Value| {
            let text = |key: &str| entry[key].as_str().unwrap_or_default().to_owned();
            format!("{} {}", text("level"), text("message"))
        };
        entries.as_array().unwrap().iter().map(said).collect()
    }

    /// Nothing went wrong in the page, nothing was refused by its policy, and it asked nobody but `origin`.
    pub async fn assert_clean(&self, origin: &str, expected: &[&str]) {
        let console = self.console();
        let bad: Vec<_> =
            console.iter().filter(|line| !expected.iter().any(|known| line.contains(known))).collect();
        assert!(bad.is_empty(), "the console has: {bad:#?}");
        let asked = self.value("performance.getEntriesByType('resource').map((entry) => entry.name)").await;
        let asked: Vec<String> = serde_json::from_value(asked).unwrap();
        // A login may stand in the address.
        let plain = |url: &String| match url.split_once('@') {
            Some((_, rest)) => format!("http://{rest}"),
            None => url.clone(),
        };
        let asked: Vec<String> = asked.iter().map(plain).collect();
        let foreign: Vec<_> =
            asked.iter().filter(|url| !url.starts_with(origin) && !url.starts_with("data:")).collect();
        assert!(foreign.is_empty() && !asked.is_empty(), "asked elsewhere: {foreign:?}");
    }

    /// Saves a picture of the window where `WEIR_SCREENSHOTS` names a directory.
    pub async fn picture(&self, name: &str) {
        if let Some(dir) = std::env::var_os("WEIR_SCREENSHOTS") {
            let png = self.client.screenshot().await.unwrap();
            std::fs::write(std::path::Path::new(&dir).join(name), png).unwrap();
        }
    }

    fn command(&self, path: &str, body: &Value) -> Value {
        let target = format!("/session/{}{path}", self.session);
        let (code, answer) = http::post_json(&format!("127.0.0.1:{}", self.port), &target, &body.to_string());
        assert_eq!(code, 200, "{path}: {answer}");
        serde_json::from_str::<Value>(&answer).unwrap()["value"].clone()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // The driver ends its browser when its session does.
        let target = format!("/session/{}", self.session);
        http::request(&format!("127.0.0.1:{}", self.port), "DELETE", &target, "");
        self.driver.kill().ok();
        self.driver.wait().ok();
    }
}
