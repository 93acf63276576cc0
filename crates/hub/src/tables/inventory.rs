//! An inventory of clients that was made elsewhere: a CSV table or JSON lines, as `lockstep clients import` takes it.
//!
//! It says what clients are called, tagged with, and may; it issues nothing and holds no secret. Where a line is wrong the whole is,
//! and each wrong line is told by its number, without what stands in it.

use super::clients::COLUMNS;
use serde_json::Value;
use std::collections::BTreeMap;
use wire::answer::{ClientChange, ImportRow};
use wire::id::ClientId;
use wire::limits::IMPORT_ROWS_MAX;
use wire::rights::{RightsChange, Role, Sees};
use wire::unique_id::UniqueId;

/// What a column, or a key, may be called.
const FIELDS: [&str; 8] = ["id", "name", "tags", "role", "read", "put", "shares", "clients"];

/// Rows with the number of their line, from 1 on.
type Lines = Vec<(u64, ImportRow)>;
/// Wrong lines, and why.
type Wrong = Vec<(u64, String)>;

/// Reads an inventory. One that begins with `{` is JSON, an object a line; every other is a CSV table with a heading, in which lists
/// have blanks between and an empty cell says nothing. The other columns of `clients.csv` are passed over, but for `shares`: there
/// they are those that a client keeps, here those that it may join, so a table with a column `state` says nothing by it.
///
/// # Errors
/// With every line that is wrong.
pub fn read_inventory(bytes: &[u8]) -> Result<Lines, Wrong> {
    let begin = bytes.iter().find(|byte| !byte.is_ascii_whitespace());
    let (mut rows, mut wrong) = (Vec::new(), Vec::new());
    let lines = if begin == Some(&b'{') { json(bytes) } else { csv(bytes).map_err(|bad| vec![bad])? };
    for (line, fields) in lines {
        match fields.and_then(|fields| row(&fields)) {
            Ok(row) => rows.push((line, row)),
            Err(why) => wrong.push((line, why)),
        }
    }
    if rows.len() > IMPORT_ROWS_MAX {
        wrong.push((rows[IMPORT_ROWS_MAX].0, format!("more than {IMPORT_ROWS_MAX} clients: import them in parts")));
    }
    if wrong.is_empty() { Ok(rows) } else { Err(wrong) }
}

/// What a line says: of each field, texts. A name is one.
type Fields = BTreeMap<&'static str, Vec<String>>;

type Read = Vec<(u64, Result<Fields, String>)>;

fn json(bytes: &[u8]) -> Read {
    let lines = (1..).zip(bytes.split(|byte| *byte == b'\n'));
    lines.filter(|(_, line)| !line.trim_ascii().is_empty()).map(|(number, line)| (number, object(line))).collect()
}

fn object(line: &[u8]) -> Result<Fields, String> {
    let Ok(Value::Object(object)) = serde_json::from_slice(line) else {
        return Err("no JSON object on one line".to_owned());
    };
    let mut fields = Fields::new();
    for (key, value) in &object {
        let field = field(key)?;
        let texts = match value {
            Value::Null => continue,
            Value::Number(number) if field == "id" => vec![number.to_string()],
            Value::String(text) if field != "id" => vec![text.clone()],
            Value::Array(list) if !matches!(field, "id" | "name" | "role" | "clients") => {
                let texts: Option<Vec<String>> = list.iter().map(|text| text.as_str().map(str::to_owned)).collect();
                texts.ok_or_else(|| format!("{field} is a list of texts"))?
            }
            _ => return Err(format!("{field} is of another kind: id is a number, lists are lists, all else is text")),
        };
        fields.insert(field, texts);
    }
    Ok(fields)
}

fn csv(bytes: &[u8]) -> Result<Read, (u64, String)> {
    let mut table = csv::ReaderBuilder::new().flexible(true).from_reader(bytes);
    let headings = table.headers().map_err(|error| (1, format!("no heading: {error}")))?.clone();
    let of_roster = headings.iter().any(|heading| heading == "state");
    let columns = headings.iter().map(|heading| match field(heading) {
        Ok("shares") if of_roster => Ok(None),
        Ok(field) => Ok(Some(field)),
        Err(_) if COLUMNS.contains(&heading) => Ok(None),
        Err(why) => Err((1, why)),
    });
    let columns = columns.collect::<Result<Vec<_>, _>>()?;
    if !columns.contains(&Some("id")) {
        return Err((1, "there is no column id".to_owned()));
    }
    let mut read = Vec::new();
    let mut record = csv::StringRecord::new();
    loop {
        let line = table.position().line();
        match table.read_record(&mut record) {
            Ok(false) => return Ok(read),
            Ok(true) if record.len() > columns.len() => {
                read.push((line, Err("more cells than the heading has".to_owned())))
            }
            Ok(true) => {
                let line = record.position().map_or(line, csv::Position::line);
                let cells = columns.iter().zip(&record).filter_map(|(column, cell)| Some(((*column)?, cell)));
                let texts = cells.filter(|(_, cell)| !cell.is_empty()).map(|(field, cell)| match field {
                    "name" => (field, vec![cell.to_owned()]),
                    _ => (field, cell.split_ascii_whitespace().map(str::to_owned).collect()),
                });
                read.push((line, Ok(texts.collect())));
            }
            Err(error) => {
                let why = match error.kind() {
                    csv::ErrorKind::Utf8 { .. } => "no UTF-8".to_owned(),
                    _ => "no line of a CSV table".to_owned(),
                };
                read.push((line, Err(why)));
                return Ok(read);
            }
        }
    }
}

fn field(name: &str) -> Result<&'static str, String> {
    FIELDS.into_iter().find(|field| *field == name).ok_or_else(|| {
        format!(
            "there may be {}, and nothing else: an inventory holds no unique IDs and issues none",
            FIELDS.join(", ")
        )
    })
}

fn row(fields: &Fields) -> Result<ImportRow, String> {
    if fields.values().flatten().any(|text| UniqueId::parse(text).is_ok()) {
        return Err("it holds a unique ID, which belongs to its client alone: take it out of the file".to_owned());
    }
    let one = |field: &str| match fields.get(field).map(Vec::as_slice) {
        None | Some([]) => Ok(None),
        Some([text]) => Ok(Some(text.as_str())),
        Some(_) => Err(format!("{field} is one word")),
    };
    let id = ClientId::parse(one("id")?.unwrap_or_default()).map_err(|bad| bad.to_string())?;
    let role = one("role")?.map(|text| Role::parse(text).ok_or("a role is client, observer or admin")).transpose()?;
    let sees = one("clients")?.map(|text| Sees::parse(text).ok_or("clients is all or itself")).transpose()?;
    let list = |field: &str| fields.get(field).cloned();
    Ok(ImportRow {
        id: id.get(),
        change: ClientChange {
            name: one("name")?.map(str::to_owned),
            tags: list("tags"),
            rights: RightsChange { role, read: list("read"), put: list("put"), shares: list("shares"), clients: sees },
            ..ClientChange::default()
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrong(text: &str) -> Vec<u64> {
        read_inventory(text.as_bytes()).unwrap_err().into_iter().map(|(line, _)| line).collect()
    }

    #[test]
    fn a_table_and_lines_of_json_say_the_same() {
        let table =
            "id,name,tags,role,read,put,shares,clients\n7,\"the desk\",lab x,observer,a/* b,,site,itself\n8,,,,,,,\n";
        let lines = "{\"id\": 7, \"name\": \"the desk\", \"tags\": [\"lab\", \"x\"], \"role\": \"observer\", \
                     \"read\": [\"a/*\", \"b\"], \"shares\": [\"site\"], \"clients\": \"itself\"}\n\n{\"id\": 8, \"put\": null}";
        let (table, lines) = (read_inventory(table.as_bytes()).unwrap(), read_inventory(lines.as_bytes()).unwrap());
        assert_eq!(table.iter().map(|(line, _)| *line).collect::<Vec<_>>(), [2, 3]);
        assert_eq!(lines.iter().map(|(line, _)| *line).collect::<Vec<_>>(), [1, 3]);
        let rows = |lines: Lines| lines.into_iter().map(|(_, row)| row).collect::<Vec<_>>();
        let table = rows(table);
        assert_eq!(table, rows(lines));
        assert_eq!(table[0].change.rights.read.as_deref(), Some(&["a/*".to_owned(), "b".to_owned()][..]));
        assert_eq!(table[1].change, ClientChange::default());
    }

    #[test]
    fn what_was_exported_can_be_imported_and_changes_no_rights_to_shares() {
        let table = format!("{}\n7,desk,active,::1,native,t,t,t,site,0.1.0,true,lab\n", COLUMNS.join(","));
        let rows = read_inventory(table.as_bytes()).unwrap();
        assert!(rows[0].1.change.rights.shares.is_none() && rows[0].1.change.tags.is_some());
    }

    #[test]
    fn every_wrong_line_is_told_by_its_number() {
        assert_eq!(wrong("id,name\n1,a\nx,b\n3,c\n0,d\n"), [3, 5]);
        assert_eq!(wrong("id,name\n1,\"a\nb\"\nx,c\n"), [4]);
        assert_eq!(wrong("{\"id\": 1}\n{\"id\": \"2\"}\n{\"id\": 3, \"nme\": \"x\"}\nx\n"), [2, 3, 4]);
        assert_eq!(wrong("name\na\n"), [1]);
        assert_eq!(wrong("id,unique_id\n7,x\n"), [1]);
        assert_eq!(wrong("id,role\n7,king\n8,client\n9,a b\n"), [2, 4]);
        assert_eq!(wrong("id,name\n7,a,b\n"), [2]);
        assert_eq!(wrong(""), [1]);
        let secret = UniqueId::fresh(ClientId::new(7).unwrap()).unwrap().reveal();
        for text in [format!("id,name\n7,{secret}\n"), format!("{{\"id\": 7, \"tags\": [\"{secret}\"]}}")] {
            let told = read_inventory(text.as_bytes()).unwrap_err();
            assert!(told[0].1.contains("unique ID") && !told[0].1.contains(&secret));
        }
    }

    #[test]
    fn an_inventory_has_its_limit() {
        let of = |rows: usize| {
            let lines: Vec<String> = (1..=rows).map(|id| id.to_string()).collect();
            read_inventory(format!("id\n{}\n", lines.join("\n")).as_bytes())
        };
        assert_eq!(of(IMPORT_ROWS_MAX).unwrap().len(), IMPORT_ROWS_MAX);
        assert_eq!(of(IMPORT_ROWS_MAX + 1).unwrap_err()[0].0, IMPORT_ROWS_MAX as u64 + 2);
    }
}
