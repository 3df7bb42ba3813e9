//! Compiles the programs in `ebpf/` for the kernel when the feature `ebpf` asks for it. Without clang the build goes
//! on with a warning, and the `ebpf` source says what is missing; `EBPF_REQUIRE_OBJECT=1` makes that an error.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Versioned names that distributions install, newest first.
const CLANG_VERSIONS: std::ops::RangeInclusive<u32> = 11..=22;

fn main() {
    // Without the feature nothing here depends on any file.
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-check-cfg=cfg(ebpf_object)");
    if env::var_os("CARGO_FEATURE_EBPF").is_none() {
        return;
    }
    println!("cargo::rerun-if-changed=ebpf");
    println!("cargo::rerun-if-env-changed=CLANG");
    println!("cargo::rerun-if-env-changed=EBPF_REQUIRE_OBJECT");
    match object() {
        Ok(object) => {
            println!("cargo::rustc-cfg=ebpf_object");
            println!("cargo::rustc-env=WEIR_EBPF_OBJECT={}", object.display());
        }
        Err(why) if env::var_os("EBPF_REQUIRE_OBJECT").is_some_and(|value| value == "1") => {
            println!("cargo::error=the eBPF programs: {why}");
        }
        Err(why) => {
            println!("cargo::warning=the eBPF programs: {why}");
            println!(
                "cargo::warning=this binary's `ebpf` source will not work; install clang, or name it with CLANG=/path/to/clang, and build again"
            );
        }
    }
}

/// The compiled object's path, or why there is none.
fn object() -> Result<PathBuf, String> {
    let of = |name| env::var_os(name).unwrap_or_default().to_string_lossy().into_owned();
    let (os, arch) = (of("CARGO_CFG_TARGET_OS"), of("CARGO_CFG_TARGET_ARCH"));
    let target = match (&*os, &*arch) {
        ("linux", "x86_64") => "-D__TARGET_ARCH_x86",
        ("linux", "aarch64") => "-D__TARGET_ARCH_arm64",
        _ => return Err(format!("they run on Linux on x86_64 and aarch64, not on {os} on {arch}")),
    };
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("cargo sets no OUT_DIR")?).join("weir.bpf.o");
    let clang = clang()?;
    compile(&clang, target, &out)?;
    Ok(out)
}

/// `$CLANG`, then `clang`, then the newest `clang-NN`.
fn clang() -> Result<PathBuf, String> {
    if let Some(named) = env::var_os("CLANG").filter(|name| !name.is_empty()) {
        let named = PathBuf::from(named);
        return match works(&named) {
            true => Ok(named),
            false => Err(format!("CLANG={}: it cannot be run", named.display())),
        };
    }
    let names = std::iter::once("clang".to_owned()).chain(CLANG_VERSIONS.rev().map(|n| format!("clang-{n}")));
    names.map(PathBuf::from).find(|name| works(name)).ok_or_else(|| "there is no clang".to_owned())
}

fn works(clang: &Path) -> bool {
    Command::new(clang).arg("--version").output().is_ok_and(|output| output.status.success())
}

fn compile(clang: &Path, target: &str, out: &Path) -> Result<(), String> {
    let output = Command::new(clang)
        .args([
            "-target",
            "bpf",
            "-g",
            "-O2",
            "-mcpu=v3",
            "-Wall",
            "-Werror",
            "-ffile-prefix-map=ebpf/=",
            target,
        ])
        .args(["-c", "ebpf/weir.bpf.c", "-o"])
        .arg(out)
        .output()
        .map_err(|e| format!("{}: {e}", clang.display()))?;
    match output.status.success() {
        true => Ok(()),
        false => Err(format!(
            "{}: {}\n{}",
            clang.display(),
            output.status,
            String::from_utf8_lossy(&output.stderr).trim_end()
        )),
    }
}
