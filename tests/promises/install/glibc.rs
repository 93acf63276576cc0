//! The oldest glibc that the program runs with is stated, and the program asks for none that is newer.

use std::fs;

use object::Endianness;
use object::elf::FileHeader64;
use object::read::elf::{FileHeader, SectionHeader as _};
use support::{binary, workspace};

use crate::http::hub;

/// Major and minor.
type Version = (u32, u32);

fn version(text: &str) -> Option<Version> {
    let (major, rest) = text.split_once('.')?;
    Some((major.parse().ok()?, rest.split('.').next()?.parse().ok()?))
}

/// The versions of glibc that a program's symbols ask for (`.gnu.version_r`).
fn asked_for(program: &[u8]) -> Vec<Version> {
    let header = FileHeader64::<Endianness>::parse(program).expect("the program is ELF");
    let endian = header.endian().unwrap();
    let sections = header.sections(endian, program).unwrap();
    let mut versions = Vec::new();
    for section in sections.iter() {
        let Some((mut needs, strings)) = section.gnu_verneed(endian, program).unwrap() else { continue };
        let strings = sections.strings(endian, program, strings).unwrap();
        while let Some((_, mut of_library)) = needs.next().unwrap() {
            while let Some(need) = of_library.next().unwrap() {
                let name = String::from_utf8_lossy(need.name(endian, strings).unwrap()).into_owned();
                versions.extend(name.strip_prefix("GLIBC_").and_then(version));
            }
        }
    }
    versions
}

#[test]
fn the_program_runs_with_the_oldest_glibc_that_is_stated() {
    let (_cluster, web, _) = hub(&[]);
    let told = web.nobody().get("/install").json();
    let stated = told["glibc"].as_str().expect("it is built for glibc");
    let newest = asked_for(&fs::read(binary()).unwrap()).into_iter().max().expect("it asks for some");
    assert!(newest <= version(stated).unwrap(), "the program asks for {newest:?}, and {stated} is stated");
    for document in ["README.md", "docs/operating.md"] {
        let text = fs::read_to_string(workspace().join(document)).unwrap();
        assert!(text.contains(&format!("glibc {stated}")), "{document} does not state glibc {stated}");
    }
}

/// What is read is what there is: this test asks for a glibc as well, and a library of the system has none older.
#[test]
fn versions_are_read_as_a_program_asks_for_them() {
    let of_this = asked_for(&fs::read(std::env::current_exe().unwrap()).unwrap());
    assert!(of_this.iter().max() >= Some(&(2, 2)), "{of_this:?}");
    assert_eq!((version("2.34"), version("2.2.5"), version("PRIVATE")), (Some((2, 34)), Some((2, 2)), None));
}
