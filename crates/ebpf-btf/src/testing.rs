//! A builder of blobs for the tests. It writes what it is told, right or wrong.

/// A BTF blob under construction: ids count from 1 in the order of the calls to [`Blob::ty`].
pub(crate) struct Blob {
    pub(crate) types: Vec<u8>,
    pub(crate) strings: Vec<u8>,
}

pub(crate) const NO_FLAG: u32 = 0;
pub(crate) const KIND_FLAG: u32 = 1 << 31;

pub(crate) fn bytes(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

impl Blob {
    pub(crate) fn new() -> Self {
        Self { types: Vec::new(), strings: vec![0] }
    }

    /// Adds a string and gives its offset; the empty one is there already.
    pub(crate) fn name(&mut self, text: &str) -> u32 {
        if text.is_empty() {
            return 0;
        }
        let offset = self.strings.len() as u32;
        self.strings.extend(text.as_bytes());
        self.strings.push(0);
        offset
    }

    /// Adds a type with this kind number, flag, vlen and third word, followed by `rest`.
    pub(crate) fn ty(
        &mut self,
        name: &str,
        kind: u32,
        flag: u32,
        vlen: u32,
        size_or_type: u32,
        rest: &[u32],
    ) -> &mut Self {
        let name = self.name(name);
        self.types.extend(bytes(&[name, flag | kind << 24 | vlen, size_or_type]));
        self.types.extend(bytes(rest));
        self
    }

    /// An `int` of 4 bytes, signed.
    pub(crate) fn int(&mut self) -> &mut Self {
        self.ty("int", 1, NO_FLAG, 0, 4, &[1 << 24 | 32])
    }

    pub(crate) fn finish(&self) -> Vec<u8> {
        let (types, strings) = (self.types.len() as u32, self.strings.len() as u32);
        let mut blob = vec![0x9f, 0xeb, 1, 0];
        blob.extend(bytes(&[24, 0, types, types, strings]));
        blob.extend(&self.types);
        blob.extend(&self.strings);
        blob
    }
}

/// A BTF.ext blob of three tables, given as words.
pub(crate) fn ext(func: &[u32], line: &[u32], core: &[u32]) -> Vec<u8> {
    let [f, l, c] = [func, line, core].map(|table| table.len() as u32 * 4);
    let mut blob = vec![0x9f, 0xeb, 1, 0];
    blob.extend(bytes(&[32, 0, f, f, l, f + l, c]));
    blob.extend(bytes(func));
    blob.extend(bytes(line));
    blob.extend(bytes(core));
    blob
}
