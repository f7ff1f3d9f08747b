//! What is served: the directory, its listings, and `/bytes/N`.

use std::fmt::Write;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use rustix::fs::{CWD, Dir, FileType, Mode, OFlags, ResolveFlags, fstat, openat, openat2};

use super::date::DateText;
use super::request::Request;
use super::response::{Answer, Body, Sending, Status};

/// Files pass through a buffer of this size, one per worker.
const SCRATCH_BYTES: usize = 64 * 1024;
const INDEX: &str = "index.html";
const HTML: &str = "text/html; charset=utf-8";

/// Everything but RFC 3986 2.3's unreserved characters and the slash.
const NOT_IN_PATHS: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'/');

/// A directory and what one worker needs to serve it.
pub(crate) struct Site {
    root: OwnedFd,
    date: DateText,
    pub(super) scratch: Box<[u8]>,
}

impl Site {
    /// Opens the directory to be served; nothing outside of it can be reached through it.
    pub(crate) fn open(root: &Path) -> io::Result<Site> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = openat(CWD, root, flags, Mode::empty())?;
        Ok(Site { root, date: DateText::new(), scratch: vec![0; SCRATCH_BYTES].into_boxed_slice() })
    }

    /// Begins the answer to a request; its head is written into `head`.
    pub(super) fn answer(&mut self, request: &Request, head: &mut Vec<u8>) -> Sending {
        let answer = self.find(&request.path).unwrap_or_else(Answer::plain);
        Sending::begin(answer, request.is_head, !request.keep_alive, self.date.now(), head)
    }

    /// Begins the last answer of a connection whose requests cannot be read further.
    pub(super) fn refuse(&mut self, status: Status, head: &mut Vec<u8>) -> Sending {
        Sending::begin(Answer::plain(status), false, true, self.date.now(), head)
    }

    fn find(&self, path: &str) -> Result<Answer, Status> {
        if let Some(count) = path.strip_prefix("/bytes/") {
            let is_number = count.bytes().all(|byte| byte.is_ascii_digit());
            let len_bytes = count.parse().ok().filter(|_| is_number).ok_or(Status::NotFound)?;
            let body = Body::Pattern { len_bytes };
            return Ok(Answer { status: Status::Ok, content_type: OCTETS, location: None, body });
        }
        let fd = self.open_beneath(path.trim_start_matches('/'))?;
        let stat = fstat(&fd).map_err(|_| Status::InternalError)?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => Ok(file_answer(fd, path, stat.st_size as u64)),
            FileType::Directory if !path.ends_with('/') => Ok(redirect_to_directory(path)),
            FileType::Directory => self.directory_answer(&fd, path),
            // Pipes, devices, sockets: not for strangers.
            _ => Err(Status::NotFound),
        }
    }

    /// The kernel itself refuses paths that leave the directory, through links too.
    fn open_beneath(&self, relative: &str) -> Result<OwnedFd, Status> {
        let relative = if relative.is_empty() { "." } else { relative };
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        openat2(&self.root, relative, flags, Mode::empty(), resolve).map_err(|_| Status::NotFound)
    }

    fn directory_answer(&self, fd: &OwnedFd, path: &str) -> Result<Answer, Status> {
        let index = format!("{}{INDEX}", path.trim_start_matches('/'));
        if let Ok(index) = self.open_beneath(&index)
            && let Ok(stat) = fstat(&index)
            && FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile
        {
            return Ok(file_answer(index, INDEX, stat.st_size as u64));
        }
        let listing = listing(fd, path).map_err(|_| Status::InternalError)?;
        let body = Body::Memory(listing.into_bytes());
        Ok(Answer { status: Status::Ok, content_type: HTML, location: None, body })
    }
}

fn file_answer(fd: OwnedFd, path: &str, len_bytes: u64) -> Answer {
    let body = Body::File { file: File::from(fd), len_bytes };
    Answer { status: Status::Ok, content_type: content_type(path), location: None, body }
}

/// RFC 3986 5.2: relative links inside a directory need its slash.
fn redirect_to_directory(path: &str) -> Answer {
    // One slash only: two would name another host.
    let path = path.trim_start_matches('/');
    let location = Some(format!("/{}/", utf8_percent_encode(path, NOT_IN_PATHS)));
    Answer { location, ..Answer::plain(Status::MovedPermanently) }
}

fn listing(fd: &OwnedFd, path: &str) -> io::Result<String> {
    let mut names = Vec::new();
    for entry in Dir::read_from(fd)? {
        let entry = entry?;
        let mut name = entry.file_name().to_string_lossy().into_owned();
        if name == "." || (name == ".." && path == "/") {
            continue;
        }
        if entry.file_type() == FileType::Directory {
            name.push('/');
        }
        names.push(name);
    }
    names.sort();
    let title = escape(path);
    let mut html = format!("<!DOCTYPE html>\n<title>{title}</title>\n<h1>{title}</h1>\n<ul>\n");
    for name in names {
        // "./" keeps a name with a colon from being read as a scheme.
        let href = utf8_percent_encode(&name, NOT_IN_PATHS);
        let _ = writeln!(html, "<li><a href=\"./{href}\">{}</a></li>", escape(&name));
    }
    html.push_str("</ul>\n");
    Ok(html)
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

const OCTETS: &str = "application/octet-stream";

fn content_type(path: &str) -> &'static str {
    let extension = Path::new(path).extension().and_then(|extension| extension.to_str()).unwrap_or_default();
    match extension.to_ascii_lowercase().as_str() {
        "html" | "htm" => HTML,
        "txt" | "md" | "log" | "toml" | "rs" | "c" | "h" | "sh" => "text/plain; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "csv" => "text/csv; charset=utf-8",
        "js" | "mjs" => "text/javascript; charset=utf-8",
        "json" => "application/json",
        "xml" => "application/xml",
        "pdf" => "application/pdf",
        "wasm" => "application/wasm",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "jpg" | "jpeg" => "image/jpeg",
        "gif" => "image/gif",
        "webp" => "image/webp",
        "ico" => "image/x-icon",
        "woff2" => "font/woff2",
        "mp4" => "video/mp4",
        _ => OCTETS,
    }
}
