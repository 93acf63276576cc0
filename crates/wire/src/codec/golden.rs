//! Writes golden frames: a message field by field, each with its bytes and what they mean. For a new protocol version only.

use serde::ser::{
    Error, Impossible, Serialize, SerializeSeq, SerializeStruct, SerializeStructVariant, SerializeTuple,
    SerializeTupleStruct, SerializeTupleVariant, Serializer,
};
use std::fmt::{self, Display, Write};

/// A block of a golden file: `[name]`, `head` (bytes before the message, and their meaning), and a line a field.
pub(super) fn block<M: Serialize>(name: &str, message: &M, head: impl Fn(usize) -> (Vec<u8>, String)) -> String {
    let mut fields = Fields::default();
    message.serialize(&mut fields).unwrap();
    let bytes: Vec<u8> = fields.lines.iter().flat_map(|(bytes, _)| bytes.clone()).collect();
    assert_eq!(bytes, postcard::to_allocvec(message).unwrap(), "{name} is written field by field as it is in one go");
    let mut text = format!("\n[{name}]\n");
    for (bytes, meaning) in std::iter::once(head(bytes.len())).chain(fields.lines) {
        writeln!(text, "{:<24} # {meaning}", data_encoding::HEXLOWER.encode(&bytes)).unwrap();
    }
    text
}

#[derive(Default)]
struct Fields {
    path: Vec<String>,
    lines: Vec<(Vec<u8>, String)>,
}

impl Fields {
    fn line(&mut self, bytes: Vec<u8>, meaning: &str) {
        let path = self.path.join(".");
        let colon = if path.is_empty() { "" } else { ": " };
        self.lines.push((bytes, format!("{path}{colon}{meaning}")));
    }

    fn value<V: Serialize + Display>(&mut self, value: V) -> Result<(), NeverUsed> {
        self.line(postcard::to_allocvec(&value).unwrap(), &value.to_string());
        Ok(())
    }

    fn variant(&mut self, of: &str, index: u32, variant: &str) {
        self.line(postcard::to_allocvec(&index).unwrap(), &format!("{of}::{variant}"));
    }

    fn within<V: ?Sized + Serialize>(&mut self, step: String, value: &V) -> Result<(), NeverUsed> {
        self.path.push(step);
        let done = value.serialize(&mut *self);
        self.path.pop();
        done
    }
}

macro_rules! values {
    ($($method:ident: $kind:ty),*) => {
        $(fn $method(self, value: $kind) -> Result<(), NeverUsed> { self.value(value) })*
    };
}

impl<'a> Serializer for &'a mut Fields {
    type Ok = ();
    type Error = NeverUsed;
    type SerializeSeq = Items<'a>;
    type SerializeTuple = Items<'a>;
    type SerializeTupleStruct = Items<'a>;
    type SerializeTupleVariant = Items<'a>;
    type SerializeMap = Impossible<(), NeverUsed>;
    type SerializeStruct = Items<'a>;
    type SerializeStructVariant = Items<'a>;

    values!(serialize_bool: bool, serialize_i8: i8, serialize_i16: i16, serialize_i32: i32, serialize_i64: i64,
        serialize_u8: u8, serialize_u16: u16, serialize_u32: u32, serialize_u64: u64, serialize_u128: u128,
        serialize_f32: f32, serialize_f64: f64, serialize_char: char);

    fn serialize_str(self, value: &str) -> Result<(), NeverUsed> {
        self.line(postcard::to_allocvec(value).unwrap(), &format!("length, {value:?}"));
        Ok(())
    }
    fn serialize_bytes(self, value: &[u8]) -> Result<(), NeverUsed> {
        let bytes = [postcard::to_allocvec(&value.len()).unwrap(), value.to_vec()].concat();
        self.line(bytes, &format!("length, b\"{}\"", value.escape_ascii()));
        Ok(())
    }
    fn serialize_none(self) -> Result<(), NeverUsed> {
        self.line(vec![0], "none");
        Ok(())
    }
    fn serialize_some<V: ?Sized + Serialize>(self, value: &V) -> Result<(), NeverUsed> {
        self.line(vec![1], "some");
        value.serialize(self)
    }
    fn serialize_unit(self) -> Result<(), NeverUsed> {
        Ok(())
    }
    fn serialize_unit_struct(self, _: &'static str) -> Result<(), NeverUsed> {
        Ok(())
    }
    fn serialize_unit_variant(self, of: &'static str, index: u32, variant: &'static str) -> Result<(), NeverUsed> {
        self.variant(of, index, variant);
        Ok(())
    }
    fn serialize_newtype_struct<V: ?Sized + Serialize>(self, _: &'static str, value: &V) -> Result<(), NeverUsed> {
        value.serialize(self)
    }
    fn serialize_newtype_variant<V: ?Sized + Serialize>(
        self,
        of: &'static str,
        index: u32,
        variant: &'static str,
        value: &V,
    ) -> Result<(), NeverUsed> {
        self.variant(of, index, variant);
        value.serialize(self)
    }
    fn serialize_seq(self, count: Option<usize>) -> Result<Items<'a>, NeverUsed> {
        let count = count.unwrap();
        self.line(postcard::to_allocvec(&count).unwrap(), &format!("{count} elements"));
        Ok(Items::of(self))
    }
    fn serialize_tuple(self, _: usize) -> Result<Items<'a>, NeverUsed> {
        Ok(Items::of(self))
    }
    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Items<'a>, NeverUsed> {
        Ok(Items::of(self))
    }
    fn serialize_tuple_variant(
        self,
        of: &'static str,
        index: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<Items<'a>, NeverUsed> {
        self.variant(of, index, variant);
        Ok(Items::of(self))
    }
    fn serialize_map(self, _: Option<usize>) -> Result<Self::SerializeMap, NeverUsed> {
        Err(NeverUsed)
    }
    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Items<'a>, NeverUsed> {
        Ok(Items::of(self))
    }
    fn serialize_struct_variant(
        self,
        of: &'static str,
        index: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<Items<'a>, NeverUsed> {
        self.variant(of, index, variant);
        Ok(Items::of(self))
    }
}

struct Items<'a> {
    fields: &'a mut Fields,
    count: usize,
    /// Where this one's lines begin.
    start: usize,
}

impl<'a> Items<'a> {
    fn of(fields: &'a mut Fields) -> Items<'a> {
        let start = fields.lines.len();
        Items { fields, count: 0, start }
    }

    fn item<V: ?Sized + Serialize>(&mut self, value: &V) -> Result<(), NeverUsed> {
        self.count += 1;
        self.fields.within((self.count - 1).to_string(), value)
    }

    /// 32 single bytes are a hash or a token: one line.
    fn close(self) -> Result<(), NeverUsed> {
        let lines = &self.fields.lines[self.start..];
        if self.count == 32 && lines.len() == 32 && lines.iter().all(|(bytes, _)| bytes.len() == 1) {
            let bytes = self.fields.lines.drain(self.start..).flat_map(|(bytes, _)| bytes).collect();
            self.fields.line(bytes, "32 bytes");
        }
        Ok(())
    }
}

macro_rules! items {
    ($($kind:ident $method:ident),*) => {
        $(impl $kind for Items<'_> {
            type Ok = ();
            type Error = NeverUsed;
            fn $method<V: ?Sized + Serialize>(&mut self, value: &V) -> Result<(), NeverUsed> {
                self.item(value)
            }
            fn end(self) -> Result<(), NeverUsed> {
                self.close()
            }
        })*
    };
}
items!(SerializeSeq serialize_element, SerializeTuple serialize_element, SerializeTupleStruct serialize_field,
    SerializeTupleVariant serialize_field);

macro_rules! named {
    ($($kind:ident),*) => {
        $(impl $kind for Items<'_> {
            type Ok = ();
            type Error = NeverUsed;
            fn serialize_field<V: ?Sized + Serialize>(&mut self, name: &'static str, value: &V) -> Result<(), NeverUsed> {
                self.fields.within(name.to_owned(), value)
            }
            fn end(self) -> Result<(), NeverUsed> {
                Ok(())
            }
        })*
    };
}
named!(SerializeStruct, SerializeStructVariant);

/// Nothing here fails; serde wants a type for it.
#[derive(Debug)]
struct NeverUsed;

impl Display for NeverUsed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a message with a map")
    }
}

impl std::error::Error for NeverUsed {}

impl Error for NeverUsed {
    fn custom<T: Display>(_: T) -> NeverUsed {
        NeverUsed
    }
}
