//! Compiles the BPF objects, turns the numbers of `steer_abi.h` into Rust constants, and says in one line what to install
//! when something is missing.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

/// What libbpf-sys and the BPF compiler need from the system: a probe, what is missing without it, and its Debian package.
const NEEDS: [(Probe, &str, &str); 5] = [
    (Probe::Program("clang"), "clang", "clang"),
    (Probe::Program("make"), "make", "make"),
    (Probe::Program("pkg-config"), "pkg-config", "pkg-config"),
    (Probe::Header("libelf.h"), "libelf", "libelf-dev"),
    (Probe::Header("zlib.h"), "zlib", "zlib1g-dev"),
];

enum Probe {
    Program(&'static str),
    Header(&'static str),
}

fn main() {
    if let Err(message) = build() {
        println!("cargo::error={message}");
    }
}

fn build() -> Result<(), String> {
    for input in ["src/bpf_min.h", "src/steer_abi.h", "src/steer_key.h", "src/steer.bpf.c", "tests/key.bpf.c"]
    {
        println!("cargo::rerun-if-changed={input}");
    }
    println!("cargo::rerun-if-env-changed=CLANG");
    let out_dir = PathBuf::from(env::var_os("OUT_DIR").ok_or("OUT_DIR is not set")?);
    check_needs()?;
    compile(Path::new("src/steer.bpf.c"), &out_dir.join("steer.bpf.o"))?;
    // Packages leave the tests out.
    if Path::new("tests/key.bpf.c").exists() {
        compile(Path::new("tests/key.bpf.c"), &out_dir.join("key.bpf.o"))?;
    }
    let header = fs::read_to_string("src/steer_abi.h").map_err(|e| format!("src/steer_abi.h: {e}"))?;
    fs::write(out_dir.join("steer_abi.rs"), abi_constants(&header)).map_err(|e| format!("steer_abi.rs: {e}"))
}

fn clang() -> String {
    env::var("CLANG").unwrap_or_else(|_| "clang".into())
}

fn check_needs() -> Result<(), String> {
    for (probe, what, package) in NEEDS {
        let found = match probe {
            Probe::Program("clang") => runs(&clang()),
            Probe::Program(name) => runs(name),
            Probe::Header(name) => has_header(name),
        };
        if !found {
            return Err(format!("{what} not found: apt-get install {package}"));
        }
    }
    Ok(())
}

fn runs(program: &str) -> bool {
    Command::new(program).arg("--version").output().is_ok_and(|out| out.status.success())
}

/// Asks clang, which knows the search path of the host.
fn has_header(name: &str) -> bool {
    let include = format!("#include <{name}>\n");
    let source = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default()).join("probe.c");
    fs::write(&source, include).is_ok()
        && Command::new(clang())
            .arg("-fsyntax-only")
            .arg(&source)
            .output()
            .is_ok_and(|out| out.status.success())
}

fn compile(source: &Path, object: &Path) -> Result<(), String> {
    let mut clang = Command::new(clang());
    // -g for the BTF that names maps and types. v2 and not v3, whose 32-bit spills the verifier of Linux 6.1 takes for
    // corrupted pointers when the loader has no CAP_PERFMON.
    clang.args(["-target", "bpf", "-mcpu=v2", "-O2", "-g", "-Wall", "-Wextra", "-Isrc"]);
    if let Some(include) = multiarch_include() {
        clang.arg("-I").arg(include);
    }
    let out =
        clang.arg("-c").arg(source).arg("-o").arg(object).output().map_err(|e| format!("clang: {e}"))?;
    let log = String::from_utf8_lossy(&out.stderr);
    if out.status.success() {
        log.lines().for_each(|line| println!("cargo::warning={line}"));
        return Ok(());
    }
    if log.contains("file not found") {
        eprintln!("{log}");
        return Err("kernel headers not found: apt-get install linux-libc-dev".into());
    }
    Err(format!("clang could not compile {}:\n{log}", source.display()))
}

/// Debian keeps asm/types.h under the machine's name, where `-target bpf` does not look.
fn multiarch_include() -> Option<PathBuf> {
    let arch = env::var("CARGO_CFG_TARGET_ARCH").ok()?;
    let include = PathBuf::from(format!("/usr/include/{arch}-linux-gnu"));
    include.exists().then_some(include)
}

/// `#define STEER_X 1` and the members of `enum steer_verdict` as `pub(crate) const STEER_X: u32 = 1;`.
fn abi_constants(header: &str) -> String {
    let mut out = String::new();
    let mut constant =
        |name: &str, value: &str| out.push_str(&format!("pub(crate) const {name}: u32 = {value};\n"));
    for line in header.lines() {
        let mut words = line.strip_prefix("#define ").unwrap_or_default().split_whitespace();
        if let (Some(name), Some(value)) = (words.next(), words.next()) {
            constant(name, value);
        }
    }
    let members = header.split("enum steer_verdict {").nth(1).and_then(|rest| rest.split('}').next());
    let lines = members.unwrap_or_default().lines().map(str::trim);
    let names = lines
        .filter(|line| line.starts_with("STEER_"))
        .filter_map(|line| line.split([',', ' ', '\t']).next());
    for (number, name) in names.enumerate() {
        constant(name, &number.to_string());
    }
    out
}
