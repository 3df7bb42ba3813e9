//! `deploy/systemd/weir.service` under a real systemd, which is the first process of a machine of its own: what start,
//! reload, stop, restart and the watchdog do, and what the service may do where it is confined.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by panicking and says what it skips"
)]

mod support;

use serde_json::Value;
use support::machine::{Machine, Missing};
use support::{eventually, skip};

const UNIT: &str = include_str!("../deploy/systemd/weir.service");
const PACKAGED: &str = include_str!("../deploy/debian/pipelines.toml");
const CONFIG: &str = "/etc/weir/pipelines.toml";
/// Another weir of the same machine, as root, and what it does.
const OTHER: &str = "[Service]\nType=notify\nExecStart=/usr/bin/weir run -c /root/other.toml\n";

/// A machine with the shipped unit, changed as a drop-in of these lines says.
fn machine(test: &str, changed: &str) -> Option<Machine> {
    let machine = match Machine::boot() {
        Ok(machine) => machine,
        Err(Missing::Tools(why)) => {
            skip(test, &why);
            return None;
        }
        Err(Missing::Surroundings(why)) => {
            // Nothing that could be installed helps, so this is never required.
            println!("SKIP {test}: {why}");
            return None;
        }
    };
    if !changed.is_empty() {
        machine.write("/etc/systemd/system/weir.service.d/test.conf", &format!("[Service]\n{changed}\n"));
    }
    machine.unit("weir.service", UNIT);
    Some(machine)
}

/// The status of the one that runs as a service.
fn status(machine: &Machine) -> Value {
    let id = machine.property("MainPID");
    serde_json::from_str(&machine.passes(&["weir", "status", "--json", "--pid", &id])).unwrap()
}

/// A component of its first pipeline.
fn component(machine: &Machine, at: usize) -> Value {
    status(machine)["pipelines"][0]["components"][at].clone()
}

/// Waits for a line of the journal, which hears of things when they are over.
#[track_caller]
fn journal_says(machine: &Machine, of: &str, text: &str) {
    let read = format!("journalctl -o cat {of}");
    eventually(text, || machine.shell(&read).lines().any(|line| line.contains(text)).then_some(()));
}

#[test]
fn it_is_active_when_it_is_ready_and_ends_with_zero() {
    let Some(machine) = machine("it_is_active_when_it_is_ready", "") else { return };
    machine.write(CONFIG, PACKAGED);
    // It cannot be ready before somebody has written the rest of its configuration.
    machine.shell("mkfifo -m 644 /etc/weir/rest.toml");
    machine.passes(&["systemctl", "start", "--no-block", "weir"]);
    let waits = r#"id=$(systemctl show -P MainPID weir); [ "$id" != 0 ] && readlink /proc/$id/exe"#;
    eventually("weir to be started", || {
        machine.run(&["sh", "-c", waits]).stdout.starts_with("/usr/bin/weir").then_some(())
    });
    assert_eq!(machine.property("ActiveState"), "activating");
    machine.shell("echo 'shutdown_timeout = \"9s\"' > /etc/weir/rest.toml; rm /etc/weir/rest.toml");
    machine.wait_for("ActiveState", "active");
    assert_eq!(status(&machine)["pipelines"][0]["name"], "logs");
    assert_ne!(machine.shell("stat -c %U /proc/$(systemctl show -P MainPID weir)").trim(), "root");
    machine.passes(&["systemctl", "stop", "weir"]);
    journal_says(&machine, "UNIT=weir.service", "weir.service: Deactivated successfully");
    assert!(!machine.shell("journalctl UNIT=weir.service").contains("Failed with result"));
    journal_says(&machine, "_COMM=weir", "stopped, everything is delivered");
}

#[test]
fn a_reload_that_fails_says_why_and_changes_nothing() {
    let Some(machine) = machine("a_reload_that_fails", "") else { return };
    let two = format!(
        "{PACKAGED}\n[[pipelines]]\nname = \"two\"\nsources = [{{ type = \"generate\" }}]\n\
         sinks = [{{ type = \"null\" }}]\n"
    );
    machine.write(CONFIG, PACKAGED);
    machine.passes(&["systemctl", "start", "weir"]);
    let id = machine.property("MainPID");
    let names = || {
        let status = status(&machine);
        let all = status["pipelines"].as_array().unwrap().iter().map(|p| p["name"].as_str().unwrap());
        all.map(str::to_owned).collect::<Vec<_>>()
    };
    machine.write(CONFIG, &two);
    machine.passes(&["systemctl", "reload", "weir"]);
    // At once: the reload is over when `systemctl` is.
    assert_eq!(names(), ["logs", "two"]);
    machine.write(CONFIG, &two.replace("generate", "generete"));
    assert_eq!(machine.run(&["systemctl", "reload", "weir"]).code, 1);
    assert_eq!(
        (machine.property("ActiveState"), names()),
        ("active".into(), vec!["logs".into(), "two".into()])
    );
    eventually("systemd to know why", || {
        let said = machine.property("StatusText");
        (said.contains("reload refused") && said.contains("unknown source type `generete`")).then_some(())
    });
    journal_says(&machine, "_COMM=weir -p err", "ERROR engine::report: reload refused");
    machine.write(CONFIG, PACKAGED);
    machine.passes(&["systemctl", "reload", "weir"]);
    assert_eq!((names(), machine.property("MainPID")), (vec!["logs".into()], id));
    machine.wait_for("StatusText", "");
}

#[test]
fn what_it_remembers_and_its_secrets_are_there_after_a_restart() {
    let secret = "LoadCredential=shipper:/etc/weir/secrets/shipper";
    let Some(machine) = machine("what_it_remembers", secret) else { return };
    let token = machine.passes(&["weir", "hash", "--token"]);
    let value = |key: &str| {
        let line = token.lines().find_map(|l| l.strip_prefix(&format!("{key} = \"")));
        line.and_then(|l| l.strip_suffix('"')).unwrap().to_owned()
    };
    machine.write("/etc/weir/secrets/shipper", &value("token"));
    machine.shell(
        "chmod 700 /etc/weir/secrets; chmod 600 /etc/weir/secrets/shipper; umask 027; \
         echo first > /var/log/app.log; chgrp adm /var/log/app.log",
    );
    machine.write(
        CONFIG,
        "server.enabled = false\n[[pipelines]]\nname = \"app\"\n\
         sources = [{ type = \"file\", path = \"/var/log/app.log\" }]\n\
         [[pipelines.sinks]]\ntype = \"http_client\"\nurl = \"http://127.0.0.1:8081/in\"\n\
         auth = { bearer = { file = \"${CREDENTIALS_DIRECTORY}/shipper\" } }\nbuffer = { type = \"disk\" }\n",
    );
    machine.passes(&["systemctl", "start", "weir"]);
    eventually("a row in the disk buffer", || (component(&machine, 1)["queued"] == 1).then_some(()));
    machine.passes(&["systemctl", "restart", "weir"]);
    eventually("the buffer as it was", || (component(&machine, 1)["queued"] == 1).then_some(()));
    let owned = machine.shell("stat -Lc '%U %a' /var/lib/weir");
    assert!(!owned.starts_with("root") && owned.trim().ends_with(" 700"), "{owned}");
    let hash = value("token_hash");
    machine.write(
        "/root/other.toml",
        &format!(
            "server.enabled = false\n[[pipelines]]\nname = \"all\"\n[[pipelines.sources]]\ntype = \"http\"\n\
             listen = \"127.0.0.1:8081\"\npath = \"/in\"\n\
             auth = {{ bearer = [{{ name = \"agent\", token_hash = \"{hash}\" }}] }}\n\
             [[pipelines.sinks]]\ntype = \"file\"\npath = \"/root/received\"\n"
        ),
    );
    machine.unit("other.service", OTHER);
    machine.passes(&["systemctl", "start", "other"]);
    let received = |count: usize| {
        eventually("the rows", || {
            let text = machine.run(&["cat", "/root/received"]).stdout;
            (text.lines().count() >= count).then_some(text)
        })
    };
    received(1);
    machine.passes(&["systemctl", "restart", "weir"]);
    machine.shell("echo second >> /var/log/app.log");
    let text = received(2);
    assert_eq!(
        (text.matches("first").count(), text.matches("second").count(), text.lines().count()),
        (1, 1, 2)
    );
}

#[test]
fn the_watchdog_starts_anew_what_does_not_move() {
    let Some(machine) = machine("the_watchdog", "WatchdogSec=1s") else { return };
    machine.write(CONFIG, PACKAGED);
    machine.passes(&["systemctl", "start", "weir"]);
    let id = machine.property("MainPID");
    machine.passes(&["kill", "-STOP", &id]);
    machine.wait_for("NRestarts", "1");
    machine.wait_for("ActiveState", "active");
    assert_ne!(machine.property("MainPID"), id);
    journal_says(&machine, "UNIT=weir.service", "Watchdog timeout (limit 1s)!");
}

#[test]
fn what_may_go_away_is_waited_for_and_a_wrong_configuration_is_not_tried_again() {
    let Some(machine) = machine("what_may_go_away", "RestartSec=100ms") else { return };
    let listening =
        "[[pipelines]]\nname = \"a\"\nsources = [{ type = \"generate\" }]\nsinks = [{ type = \"http\" }]\n";
    machine.write(CONFIG, listening);
    machine.write("/root/other.toml", listening);
    machine.unit("other.service", OTHER);
    machine.passes(&["systemctl", "start", "other"]);
    // The port of the shared server is the other's.
    assert_eq!(machine.run(&["systemctl", "start", "weir"]).code, 1);
    // systemd gives up after five starts in ten seconds, unless told otherwise.
    eventually("seven tries", || (machine.property("NRestarts").parse::<u32>().unwrap() >= 7).then_some(()));
    machine.passes(&["systemctl", "stop", "other"]);
    machine.wait_for("ActiveState", "active");
    for (config, status) in [("nonsense = 1\n", "78"), ("", "66")] {
        machine.passes(&["systemctl", "stop", "weir"]);
        machine.write(CONFIG, config);
        if config.is_empty() {
            machine.passes(&["rm", CONFIG]);
        }
        assert_eq!(machine.run(&["systemctl", "start", "weir"]).code, 1);
        let ended = ["ActiveState", "ExecMainStatus"].map(|name| machine.property(name));
        assert_eq!(ended, ["failed", status]);
    }
}

#[test]
fn what_it_may_do_is_what_the_unit_says() {
    let Some(machine) = machine("what_it_may_do", "") else { return };
    machine.shell(
        "umask 077; echo kept from it > /var/log/closed.log; \
         echo open to it > /var/log/open.log; chmod 640 \
         /var/log/open.log; chgrp adm /var/log/open.log; \
         systemd-tmpfiles --create --prefix=/run/log/journal; echo of the journal | systemd-cat",
    );
    machine.write(
        CONFIG,
        "server.enabled = false\n[[pipelines]]\nname = \"a\"\n\
         sources = [{ type = \"file\", path = \"/var/log/*.log\" }, { type = \"udp\", listen = \"127.0.0.1:514\" },\n\
         { type = \"exec\", command = [\"journalctl\", \"-f\", \"-n\", \"all\", \"-o\", \"cat\"] }]\n\
         sinks = [{ type = \"file\", path = \"/var/log/weir/out\" }]\n",
    );
    machine.shell("find /var/log -maxdepth 1 -name '*.log' ! -name open.log ! -name closed.log -delete");
    machine.passes(&["systemctl", "start", "weir"]);
    let has = |line: &str| {
        let text = machine.run(&["cat", "/var/log/weir/out"]).stdout;
        text.lines().any(|l| l.contains(line)).then_some(())
    };
    eventually("a file of the group adm", || has("open to it"));
    eventually("the journal", || has("of the journal"));
    eventually("the port to be refused", || (component(&machine, 1)["state"] == "restarting").then_some(()));
    assert!(has("kept from it").is_none());
    // With the lines of the unit that allow more.
    let more = |unit: &str, name: &str| unit.replace(&format!("#{name}"), name);
    let unit = more(&more(UNIT, "AmbientCapabilities="), "CapabilityBoundingSet=");
    assert_ne!(unit, UNIT);
    machine.unit("weir.service", &unit);
    machine.passes(&["systemctl", "restart", "weir"]);
    eventually("a file of root alone", || has("kept from it"));
    eventually("the port", || (component(&machine, 1)["state"] == "ready").then_some(()));
}
