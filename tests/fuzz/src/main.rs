//! A plain fuzzing loop: `ringwire-fuzz TARGET|all SECONDS [SEED]`, or `ringwire-fuzz TARGET FILE...` to play inputs again.
//!
//! Mutates the seeds and its own earlier inputs without coverage feedback, which is what CI can afford. `ringwire-fuzz seeds DIR`
//! writes the seed corpora for libFuzzer. An input that fails is written to `crash-TARGET`.

use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use ringwire_fuzz::{TARGETS, Target, seeds};

const MAX_INPUT_BYTES: usize = 1024;
const POOL_INPUTS: usize = 512;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let outcome = match args.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["seeds", dir] => write_seeds(Path::new(dir)),
        [name, rest @ ..] if !rest.is_empty() => run(name, rest),
        _ => Err("usage: ringwire-fuzz TARGET|all SECONDS [SEED] | TARGET FILE... | seeds DIR".to_owned()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(what) => {
            eprintln!("{what}");
            ExitCode::FAILURE
        }
    }
}

fn run(name: &str, rest: &[&str]) -> Result<(), String> {
    let targets: Vec<Target> =
        TARGETS.iter().copied().filter(|(known, _)| name == "all" || *known == name).collect();
    if targets.is_empty() {
        let known: Vec<&str> = TARGETS.iter().map(|(known, _)| *known).collect();
        return Err(format!("no target {name}; there are: {}, all", known.join(", ")));
    }
    let Ok(seconds) = rest[0].parse::<u64>() else {
        return targets.iter().try_for_each(|(_, target)| replay(*target, rest));
    };
    let seed = rest.get(1).and_then(|seed| seed.parse().ok()).unwrap_or(1);
    // The budget is for all of them together.
    let each = Duration::from_secs(seconds) / u32::try_from(targets.len()).unwrap_or(1);
    targets.iter().try_for_each(|target| fuzz(*target, each, seed))
}

fn replay(target: fn(&[u8]), files: &[&str]) -> Result<(), String> {
    for file in files {
        let input = std::fs::read(file).map_err(|error| format!("{file}: {error}"))?;
        target(&input);
    }
    Ok(())
}

fn fuzz((name, target): Target, limit: Duration, seed: u64) -> Result<(), String> {
    let mut rng = Rng(seed.max(1));
    let mut pool = seeds(name);
    let began = Instant::now();
    let mut runs = 0_u64;
    for input in pool.clone() {
        check(name, target, &input)?;
    }
    while began.elapsed() < limit {
        let input = mutated(&mut rng, &pool);
        check(name, target, &input)?;
        runs += 1;
        if pool.len() < POOL_INPUTS {
            pool.push(input);
        } else if rng.below(8) == 0 {
            let place = rng.below(POOL_INPUTS);
            pool[place] = input;
        }
    }
    println!("{name}: {runs} inputs in {:.1} s, nothing found", began.elapsed().as_secs_f64());
    Ok(())
}

/// Where the failure is told from and kept.
fn check(name: &str, target: fn(&[u8]), input: &[u8]) -> Result<(), String> {
    std::panic::catch_unwind(|| target(input)).map_err(|_| {
        let file = format!("crash-{name}");
        let kept = std::fs::write(&file, input).map_or_else(|error| error.to_string(), |()| file);
        format!(
            "{name} fails: {} bytes in {kept}; again with: ringwire-fuzz {name} crash-{name}",
            input.len()
        )
    })
}

fn mutated(rng: &mut Rng, pool: &[Vec<u8>]) -> Vec<u8> {
    let mut input = pool[rng.below(pool.len())].clone();
    for _ in 0..=rng.below(6) {
        let at = rng.below(input.len() + 1);
        match rng.below(6) {
            0 => input.insert(at, rng.byte()),
            1 => {
                let other = &pool[rng.below(pool.len())];
                let from = rng.below(other.len() + 1);
                input.splice(at..at, other[from..].iter().copied());
            }
            2 => input.truncate(at),
            3 => (0..rng.below(32)).for_each(|_| input.push(rng.byte())),
            _ => {
                if let Some(byte) = input.get_mut(at) {
                    *byte = if rng.below(2) == 0 { rng.byte() } else { *byte ^ (1 << rng.below(8)) };
                }
            }
        }
    }
    input.truncate(MAX_INPUT_BYTES);
    input
}

fn write_seeds(dir: &Path) -> Result<(), String> {
    for (name, _) in TARGETS {
        let dir = dir.join(name);
        std::fs::create_dir_all(&dir).map_err(|error| format!("{}: {error}", dir.display()))?;
        for (index, seed) in seeds(name).iter().enumerate() {
            let file = dir.join(format!("seed-{index}"));
            std::fs::write(&file, seed).map_err(|error| format!("{}: {error}", file.display()))?;
        }
    }
    Ok(())
}

/// xorshift64*
struct Rng(u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() >> 33) as usize % limit.max(1)
    }

    fn byte(&mut self) -> u8 {
        (self.next() >> 40) as u8
    }
}
