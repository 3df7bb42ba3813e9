//! Random histories: whatever is appended, rotated, truncated, stopped and torn down, every line comes, and comes
//! once if every stop was orderly.

use std::collections::HashMap;

use super::*;
use crate::base::rng::Rng;

/// One history, drawn from a seed.
struct History {
    rig: Rig,
    rng: Rng,
    weir: Option<Running>,
    /// Lines written so far; each is its number.
    written: usize,
    came: HashMap<String, usize>,
    /// A line that has no newline yet.
    partial: Option<String>,
    rotations: usize,
    torn: bool,
}

impl History {
    fn new(seed: u64) -> History {
        let mut rng = Rng::seeded(seed);
        let glob = if rng.below(2) == 0 { "app.log" } else { "app.log*" };
        let options = json!({ "fingerprint": { "bytes": "64B" }, "rotate_wait": "100ms" });
        let (came, partial) = (HashMap::new(), None);
        History {
            rig: Rig::new(&[glob], options),
            rng,
            weir: None,
            written: 0,
            came,
            partial,
            rotations: 0,
            torn: false,
        }
    }

    fn append(&mut self) {
        let mut text = String::new();
        for _ in 0..=self.rng.below(30) {
            let start = self.partial.take().unwrap_or_default();
            let line = format!("{}{}", self.written, "-".repeat(self.rng.below(60) as usize));
            if start.is_empty() {
                text.push_str(&line);
            }
            text.push('\n');
            self.written += 1;
        }
        if self.rng.below(3) == 0 {
            let line = format!("{}x", self.written);
            text.push_str(&line);
            self.partial = Some(line);
        }
        self.rig.append("app.log", text);
    }

    fn complete(&mut self) {
        if self.partial.take().is_some() {
            self.rig.append("app.log", "\n");
            self.written += 1;
        }
    }

    fn note(&mut self, lines: Vec<String>) {
        for line in lines {
            *self.came.entry(line.trim_end_matches(['-', 'x']).to_owned()).or_insert(0) += 1;
        }
    }

    /// Waits until everything complete has come.
    async fn catch_up(&mut self) {
        if self.weir.is_none() {
            self.weir = Some(self.rig.start().await);
        }
        for _ in 0..200 {
            if self.came.len() >= self.written {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
            if let Some(weir) = &mut self.weir {
                let lines = testing::take_lines(&mut weir.inlet);
                self.note(lines.iter().map(|l| String::from_utf8_lossy(l).into_owned()).collect());
            }
        }
    }

    async fn step(&mut self) {
        let what = self.rng.below(12);
        match what {
            0..4 => self.append(),
            4 | 5 => {
                self.complete();
                if self.rig.log("app.log").exists() {
                    self.rotations += 1;
                    self.rig.rename("app.log", &format!("app.log.{}", self.rotations));
                }
            }
            6 => {
                // What was not read is gone with a truncation, whoever reads.
                self.complete();
                self.catch_up().await;
                if self.rig.log("app.log").exists() {
                    fs::write(self.rig.log("app.log"), "").unwrap();
                    if self.rng.below(2) == 0 {
                        self.append();
                    }
                }
            }
            7 | 8 => match self.weir.take() {
                None => self.weir = Some(self.rig.start().await),
                Some(weir) if self.rng.below(3) == 0 => {
                    self.torn = true;
                    weir.abort().await;
                }
                Some(weir) => {
                    let lines = weir.stop().await;
                    self.note(lines);
                }
            },
            9 => self.catch_up().await,
            _ => tokio::time::sleep(Duration::from_millis(self.rng.below(40))).await,
        }
    }
}

async fn live(seed: u64) {
    let mut history = History::new(seed);
    // A file that was rotated before weir ever ran is none of its business.
    history.append();
    history.complete();
    history.catch_up().await;
    for _ in 0..25 {
        history.step().await;
    }
    history.complete();
    history.append();
    history.complete();
    history.catch_up().await;
    let missing: Vec<usize> =
        (0..history.written).filter(|i| !history.came.contains_key(&i.to_string())).collect();
    assert!(missing.is_empty(), "seed {seed}: lines {missing:?} of {} never came", history.written);
    let twice: Vec<_> = history.came.iter().filter(|(_, n)| **n > 1).collect();
    assert!(history.torn || twice.is_empty(), "seed {seed}: came more than once: {twice:?}");
    assert_eq!(history.came.len(), history.written, "seed {seed}: something came that nobody wrote");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_line_comes_and_comes_once_if_every_stop_is_orderly() {
    for seeds in (0..48u64).collect::<Vec<_>>().chunks(8) {
        let running: Vec<_> = seeds.iter().map(|&seed| task::spawn(live(seed))).collect();
        for one in running {
            one.await.unwrap();
        }
    }
}
