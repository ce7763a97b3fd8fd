//! Reads and writes header blocks (RFC 7541), for scripts that speak frames. Writes literals only. Panics on blocks that
//! are malformed: they come from the engine.

/// Appendix A, in order: `name=value`, with `~` for a space.
const STATIC: &str = "\
    :authority :method=GET :method=POST :path=/ :path=/index.html :scheme=http :scheme=https :status=200 \
    :status=204 :status=206 :status=304 :status=400 :status=404 :status=500 accept-charset \
    accept-encoding=gzip,~deflate accept-language accept-ranges accept access-control-allow-origin age allow \
    authorization cache-control content-disposition content-encoding content-language content-length \
    content-location content-range content-type cookie date etag expect expires from host if-match \
    if-modified-since if-none-match if-range if-unmodified-since last-modified link location max-forwards \
    proxy-authenticate proxy-authorization range referer refresh retry-after server set-cookie \
    strict-transport-security transfer-encoding user-agent vary via www-authenticate";

/// Appendix B: how many bits each symbol has, `a` for 5. The code is canonical, so that these determine it.
const BITS: &[u8; 257] = b"\
    isxxxxxxxtzxxzxxxxxxxxzxxxxxxxxxbffhibdgffdgdbbbaaabbbbbbbcdkbhfibccccccccccccccccccccccdcdioijbkabababbbaccbb\
    babcbaabccccckgjixprpprrrsrssssststtrstssssqrsrsstrqprrssqsrrtqrssqqrqsrssprrrsrrsvvporsruvvvwwvtuoqvwwvwtqqvv\
    xwwwptpqrqqsrruuttvsvwvvwwwwwxwwwwwvz";

/// A header block as literals that enter no table.
pub(super) fn encode(fields: &[(&[u8], &[u8])]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            integer(text.len(), &mut block);
            block.extend_from_slice(text);
        }
    }
    block
}

/// An integer behind one bit.
fn integer(mut value: usize, block: &mut Vec<u8>) {
    const MOST: usize = 127;
    if value < MOST {
        return block.push(value as u8);
    }
    block.push(MOST as u8);
    value -= MOST;
    while value >= 128 {
        block.push((value % 128) as u8 | 128);
        value /= 128;
    }
    block.push(value as u8);
}

/// Reads header blocks of one connection, in their order.
#[derive(Debug, Default)]
pub(super) struct Decoder {
    /// The newest first.
    table: Vec<(String, String)>,
}

impl Decoder {
    /// The fields of a block.
    pub(super) fn decode(&mut self, mut block: &[u8]) -> Vec<(String, String)> {
        let mut fields = Vec::new();
        while let Some(first) = block.first().copied() {
            let bits = match first {
                128.. => 7,
                64.. => 6,
                32.. => 5,
                _ => 4,
            };
            let index = take_integer(&mut block, bits);
            match bits {
                7 => fields.push(self.entry(index)),
                // The table's size, which is never more than was allowed.
                5 => {}
                _ => fields.push(self.literal(index, bits == 6, &mut block)),
            }
        }
        fields
    }

    fn literal(&mut self, index: usize, is_kept: bool, block: &mut &[u8]) -> (String, String) {
        let name = if index == 0 { take_text(block) } else { self.entry(index).0 };
        let field = (name, take_text(block));
        if is_kept {
            self.table.insert(0, field.clone());
        }
        field
    }

    fn entry(&self, index: usize) -> (String, String) {
        let mut known = STATIC.split(' ');
        match known.nth(index - 1) {
            Some(known) => {
                let (name, value) = known.split_once('=').unwrap_or((known, ""));
                (name.to_owned(), value.replace('~', " "))
            }
            None => self.table[index - 1 - STATIC.split(' ').count()].clone(),
        }
    }
}

fn take_integer(block: &mut &[u8], bits: u32) -> usize {
    let most = (1 << bits) - 1;
    let mut value = usize::from(block[0]) & most;
    *block = &block[1..];
    let mut shift = 0;
    while value >= most {
        let byte = usize::from(block[0]);
        *block = &block[1..];
        value += (byte % 128) << shift;
        shift += 7;
        if byte < 128 {
            break;
        }
    }
    value
}

fn take_text(block: &mut &[u8]) -> String {
    let is_coded = block[0] >= 128;
    let count = take_integer(block, 7);
    let (text, rest) = block.split_at(count);
    *block = rest;
    let bytes = if is_coded { uncode(text) } else { text.to_vec() };
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Decodes a text in the code of Appendix B.
fn uncode(text: &[u8]) -> Vec<u8> {
    let bits_of = |symbol: &usize| u32::from(BITS[*symbol] - b'a') + 5;
    let (mut out, mut code, mut length) = (Vec::new(), 0_u32, 0);
    for bit in text.iter().flat_map(|byte| (0..8).rev().map(move |place| byte >> place & 1)) {
        (code, length) = (code << 1 | u32::from(bit), length + 1);
        // The first code of a length follows the last shorter one.
        let first = (5..length).fold(0, |first, shorter| {
            (first + (0..BITS.len()).filter(|symbol| bits_of(symbol) == shorter).count() as u32) << 1
        });
        let place = code.wrapping_sub(first) as usize;
        if let Some(symbol) = (0..BITS.len()).filter(|symbol| bits_of(symbol) == length).nth(place) {
            out.push(symbol as u8);
            (code, length) = (0, 0);
        }
    }
    out
}

#[test]
fn texts_are_decoded() {
    // RFC 7541 §C.4.1, §C.4.2.
    let mut decoder = Decoder::default();
    let blocks: [&[u8]; 2] = [
        b"\x82\x86\x84\x41\x8c\xf1\xe3\xc2\xe5\xf2\x3a\x6b\xa0\xab\x90\xf4\xff",
        b"\x82\x86\x84\xbe\x58\x86\xa8\xeb\x10\x64\x9c\xbf",
    ];
    let [first, second] = blocks.map(|block| decoder.decode(block));
    assert_eq!(first[3], (":authority".into(), "www.example.com".into()));
    assert_eq!(second[3..], [first[3].clone(), ("cache-control".into(), "no-cache".into())]);
}
