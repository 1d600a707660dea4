//! Files of rows: CSV with a header, or a JSON object a line, whichever the file begins like. They are read
//! once from front to back, one row in memory, so that their size does not matter.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

/// Bytes of one row. A quote that is never closed must not take the whole file into memory.
const ROW_BYTES_MAX: usize = 1 << 20;
const BUFFER_BYTES: usize = 1 << 16;

/// One row: what stands under which column. Empty cells are left out.
pub(super) struct Row {
    /// The line of the file that it begins in, from 1.
    pub(super) line: u64,
    /// Column and cell.
    pub(super) cells: Vec<(String, String)>,
}

impl Row {
    /// The cell under a column, unless it is empty.
    pub(super) fn get(&self, column: &str) -> Option<&str> {
        self.cells.iter().find(|(name, _)| name == column).map(|(_, cell)| cell.as_str())
    }
}

/// What is wrong with a row.
#[derive(Debug)]
pub(super) struct Fault {
    /// Its line.
    pub(super) line: u64,
    /// What, and what to do.
    pub(super) why: String,
    /// Whether nothing after it can be read.
    pub(super) fatal: bool,
}

/// The rows of a file.
pub(super) struct Rows {
    source: Source,
    done: bool,
}

enum Source {
    Csv { columns: Vec<String>, reader: Box<csv::Reader<BufReader<Tap>>> },
    Jsonl { lines: BufReader<Tap>, line: u64 },
}

impl Rows {
    /// Opens a file; an error says what is wrong with it as a whole.
    pub(super) fn open(path: &Path) -> Result<Self, String> {
        let name = path.display();
        let file = File::open(path).map_err(|error| format!("{name}: {error}"))?;
        let tap = Tap { file, hash: Sha256::new(), read: 0, left: ROW_BYTES_MAX };
        let source = Source::new(BufReader::with_capacity(BUFFER_BYTES, tap));
        let source = source.map_err(|why| format!("{name}:1: {why}"))?;
        Ok(Self { source, done: false })
    }

    /// The columns, where a header names them.
    pub(super) fn columns(&self) -> Option<&[String]> {
        match &self.source {
            Source::Csv { columns, .. } => Some(columns),
            Source::Jsonl { .. } => None,
        }
    }

    /// Bytes of the file that were read.
    pub(super) fn bytes(&self) -> u64 {
        self.tap().read
    }

    /// SHA-256 of what was read: of the whole file, once there are no more rows.
    pub(super) fn hash(&self) -> [u8; 32] {
        self.tap().hash.clone().finalize().into()
    }

    fn tap(&self) -> &Tap {
        match &self.source {
            Source::Csv { reader, .. } => reader.get_ref().get_ref(),
            Source::Jsonl { lines, .. } => lines.get_ref(),
        }
    }
}

impl Iterator for Rows {
    type Item = Result<Row, Fault>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.done {
            let row = match &mut self.source {
                Source::Csv { columns, reader } => csv_row(columns, reader),
                Source::Jsonl { lines, line } => json_row(lines, line),
            };
            match row {
                // Spreadsheets leave rows behind in which nothing stands.
                Ok(Some(row)) if row.cells.is_empty() => {}
                Ok(row) => {
                    self.done = row.is_none();
                    return row.map(Ok);
                }
                Err(fault) => {
                    self.done = fault.fatal;
                    return Some(Err(fault));
                }
            }
        }
        None
    }
}

impl Source {
    fn new(mut from: BufReader<Tap>) -> Result<Self, String> {
        let begin = from.fill_buf().map_err(|error| error.to_string())?;
        if begin.starts_with(b"\xff\xfe") || begin.starts_with(b"\xfe\xff") {
            return Err("this is UTF-16; save it as UTF-8".into());
        }
        if begin.starts_with(b"PK\x03\x04") {
            return Err("this is a spreadsheet or an archive; save it as CSV".into());
        }
        // Spreadsheets put a byte order mark before the header.
        let mark = if begin.starts_with(b"\xef\xbb\xbf") { 3 } else { 0 };
        let first = begin.iter().skip(mark).find(|byte| !byte.is_ascii_whitespace()).copied();
        from.consume(mark);
        match first {
            None => Err("nothing is in this file".into()),
            Some(b'{') => Ok(Self::Jsonl { lines: from, line: 0 }),
            Some(b'[') => Err("this is a JSON array; write one object a line".into()),
            Some(_) => {
                // With CRLF as terminator a line would count only when the one after it is read. So CR is
                // white space at the end of the last cell, which is trimmed.
                let mut reader = csv::ReaderBuilder::new()
                    .trim(csv::Trim::All)
                    .terminator(csv::Terminator::Any(b'\n'))
                    .flexible(true)
                    .from_reader(from);
                let columns = header(reader.byte_headers().map_err(|error| explain(&error))?)?;
                Ok(Self::Csv { columns, reader: Box::new(reader) })
            }
        }
    }
}

fn header(names: &csv::ByteRecord) -> Result<Vec<String>, String> {
    let names: Result<Vec<String>, String> = names.iter().map(text).collect();
    let names = names?;
    if names.len() == 1 && names.iter().any(|name| name.contains([';', '\t'])) {
        return Err("separate the columns by commas".into());
    }
    if names.iter().any(|name| name.contains('\r')) {
        return Err("the lines end in CR alone; save the file with LF or CRLF".into());
    }
    for (n, name) in names.iter().enumerate() {
        if !name.is_empty() && names.iter().take(n).any(|other| other == name) {
            return Err(format!("the header names {name:?} twice"));
        }
    }
    Ok(names)
}

fn csv_row(
    columns: &[String],
    reader: &mut csv::Reader<BufReader<Tap>>,
) -> Result<Option<Row>, Fault> {
    reader.get_mut().get_mut().left = ROW_BYTES_MAX;
    let mut record = csv::ByteRecord::new();
    let begins = reader.position().line();
    let read = reader.read_byte_record(&mut record);
    // The reader counts from before blank lines. Behind a row it stands below its last line, unless the
    // file ends there without a line end.
    let breaks = record.iter().flatten().filter(|byte| **byte == b'\n').count();
    let breaks = u64::try_from(breaks).unwrap_or(0);
    let below = reader.position().line();
    let line = record.position().map_or(begins, csv::Position::line);
    let line = if read.is_ok() { line.max(below.saturating_sub(breaks + 1)) } else { line };
    match read {
        Ok(true) => {}
        Ok(false) => return Ok(None),
        Err(error) => return Err(Fault { line, why: explain(&error), fatal: true }),
    }
    let wrong = |why: String| Fault { line, why, fatal: false };
    if record.iter().all(<[u8]>::is_empty) {
        return Ok(Some(Row { line, cells: Vec::new() }));
    }
    if record.len() < columns.len() {
        let (cells, columns) = (record.len(), columns.len());
        return Err(wrong(format!("{cells} cells, the header has {columns} columns")));
    }
    let names = columns.iter().map(String::as_str).chain(std::iter::repeat(""));
    let mut cells = Vec::with_capacity(columns.len());
    for (name, cell) in names.zip(&record).filter(|(_, cell)| !cell.is_empty()) {
        if name.is_empty() {
            let cell = String::from_utf8_lossy(cell);
            return Err(wrong(format!("{cell:?} stands under no column; is a comma not quoted?")));
        }
        let cell = text(cell).map_err(|why| wrong(format!("{name}: {why}")))?;
        cells.push((name.to_string(), cell));
    }
    Ok(Some(Row { line, cells }))
}

fn json_row(lines: &mut BufReader<Tap>, line: &mut u64) -> Result<Option<Row>, Fault> {
    *line += 1;
    let line = *line;
    let wrong = |why: String, fatal: bool| Fault { line, why, fatal };
    lines.get_mut().left = ROW_BYTES_MAX;
    let mut bytes = Vec::new();
    let read = lines.read_until(b'\n', &mut bytes);
    if read.map_err(|error| wrong(error.to_string(), true))? == 0 {
        return Ok(None);
    }
    if bytes.trim_ascii().is_empty() {
        return Ok(Some(Row { line, cells: Vec::new() }));
    }
    let row = text(&bytes).map_err(|why| wrong(why, false))?;
    let row: Map<String, Value> = serde_json::from_str(&row)
        .map_err(|error| wrong(format!("no JSON object: {error}"), false))?;
    let mut cells = Vec::with_capacity(row.len());
    for (name, value) in row {
        match value {
            Value::Null => {}
            Value::String(text) if text.is_empty() => {}
            Value::String(text) => cells.push((name, text)),
            Value::Number(number) => cells.push((name, number.to_string())),
            _ => return Err(wrong(format!("{name}: neither a text nor a number"), false)),
        }
    }
    Ok(Some(Row { line, cells }))
}

fn text(bytes: &[u8]) -> Result<String, String> {
    let text = std::str::from_utf8(bytes).map(ToString::to_string);
    text.map_err(|_| "not UTF-8 (Latin-1, perhaps); save the file as UTF-8".into())
}

fn explain(error: &csv::Error) -> String {
    match error.kind() {
        csv::ErrorKind::Io(error) => error.to_string(),
        _ => error.to_string(),
    }
}

/// The file's bytes on their way: hashed, counted, and bounded by row.
struct Tap {
    file: File,
    hash: Sha256,
    read: u64,
    left: usize,
}

impl Read for Tap {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        if self.left == 0 {
            let why = format!("a row of more than {ROW_BYTES_MAX} bytes; is a quote not closed?");
            return Err(io::Error::other(why));
        }
        let count = self.file.read(to)?;
        self.hash.update(to.get(..count).unwrap_or_default());
        self.read += u64::try_from(count).unwrap_or(0);
        self.left = self.left.saturating_sub(count);
        Ok(count)
    }
}
