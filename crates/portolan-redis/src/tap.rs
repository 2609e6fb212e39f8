//! A stream from Redis that takes out the messages of channels before the client sees them.
//!
//! A node hears every message of its maps, so this is where its time goes. The client's parser is
//! made for everything that Redis can say, and builds a tree of each answer, which takes several
//! times as long as all else that is done with a message. Here a message is found by the form that
//! all of them have, and handed over as it lies in the buffer; whatever else comes passes as it is.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What is read at a time, at least.
const CHUNK: usize = 16 * 1024;
/// A buffer that has grown larger than this is given back once it is empty.
const KEPT: usize = 256 * 1024;
/// How a message begins, in a channel or in that of a shard (RESP3).
const MESSAGES: [&[u8]; 2] = [
    b">3\r\n$7\r\nmessage\r\n".as_slice(),
    b">3\r\n$8\r\nsmessage\r\n".as_slice(),
];

/// Calls with the channel and the payload of each message, in the order in which they come.
pub(crate) struct Tap<S, F> {
    stream: S,
    hear: F,
    /// What was read lies in `buffer[start..end]`; the rest is room.
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    /// So much of it is for the client.
    passing: usize,
    has_ended: bool,
}

/// What a buffer begins with.
#[derive(Debug, PartialEq, Eq)]
enum Next<'a> {
    /// A message, which takes so many bytes.
    Message {
        channel: &'a [u8],
        payload: &'a [u8],
        length: usize,
    },
    /// Something else, of so many bytes.
    Other(usize),
    /// The beginning of either.
    Incomplete,
}

impl<S, F: FnMut(&[u8], &[u8])> Tap<S, F> {
    pub(crate) fn new(stream: S, hear: F) -> Self {
        Self {
            stream,
            hear,
            buffer: vec![0; CHUNK],
            start: 0,
            end: 0,
            passing: 0,
            has_ended: false,
        }
    }

    /// Hands over the messages that are whole, up to the first bytes that are for the client.
    fn take(&mut self) {
        while self.passing == 0 && self.start < self.end {
            match next(&self.buffer[self.start..self.end]) {
                Next::Message {
                    channel,
                    payload,
                    length,
                } => {
                    (self.hear)(channel, payload);
                    self.start += length;
                }
                Next::Other(length) => self.passing = length,
                // What breaks off is for the client to complain about.
                Next::Incomplete if self.has_ended => self.passing = self.end - self.start,
                Next::Incomplete => return,
            }
        }
    }

    /// Makes room for more.
    fn make_room(&mut self) {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
            if self.buffer.len() > KEPT {
                self.buffer = vec![0; CHUNK];
            }
        } else if self.end == self.buffer.len() {
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
            if self.end > self.buffer.len() / 2 {
                self.buffer.resize(self.buffer.len() * 2, 0);
            }
        }
    }
}

impl<S: AsyncRead + Unpin, F: FnMut(&[u8], &[u8]) + Unpin> AsyncRead for Tap<S, F> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            this.take();
            let count = this.passing.min(out.remaining());
            if count > 0 || this.has_ended {
                out.put_slice(&this.buffer[this.start..this.start + count]);
                this.start += count;
                this.passing -= count;
                return Poll::Ready(Ok(()));
            }
            this.make_room();
            let mut room = ReadBuf::new(&mut this.buffer[this.end..]);
            ready!(Pin::new(&mut this.stream).poll_read(context, &mut room))?;
            let count = room.filled().len();
            this.end += count;
            this.has_ended = count == 0;
        }
    }
}

impl<S: AsyncWrite + Unpin, F: Unpin> AsyncWrite for Tap<S, F> {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }
}

fn next(bytes: &[u8]) -> Next<'_> {
    for begin in MESSAGES {
        if let Some(rest) = bytes.strip_prefix(begin) {
            let Some((channel, rest)) = string(rest) else {
                return Next::Incomplete;
            };
            return match string(rest) {
                Some((payload, rest)) => Next::Message {
                    channel,
                    payload,
                    length: bytes.len() - rest.len(),
                },
                None => Next::Incomplete,
            };
        }
        if begin.starts_with(bytes) {
            return Next::Incomplete;
        }
    }
    match length_of_one(bytes) {
        Some(length) => Next::Other(length),
        None => Next::Incomplete,
    }
}

/// A string with its length before it, and what comes after. Nothing where it is not whole yet; one
/// that is none never is, and the digest finds that nothing is heard any more.
fn string(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (head, rest) = line(bytes)?;
    let length = number(head.strip_prefix(b"$")?)?;
    let (string, rest) = rest.split_at_checked(length)?;
    Some((string, rest.strip_prefix(b"\r\n")?))
}

/// How many bytes an answer takes, with all that is in it; nothing where it is not whole. What is
/// no answer is all passed on: the client says what is wrong with it.
fn length_of_one(bytes: &[u8]) -> Option<usize> {
    let (mut rest, mut left) = (bytes, 1usize);
    while left > 0 {
        let (head, behind) = line(rest)?;
        rest = behind;
        left -= 1;
        let (kind, count) = head.split_first()?;
        let count = number(count);
        match (kind, count) {
            (b'$' | b'!' | b'=', Some(count)) => rest = rest.get(count.checked_add(2)?..)?,
            (b'*' | b'~' | b'>', Some(count)) => left = left.checked_add(count)?,
            (b'%', Some(count)) => left = left.checked_add(count.checked_mul(2)?)?,
            // What they are about follows.
            (b'|', Some(count)) => {
                let about = count.checked_mul(2)?.checked_add(1)?;
                left = left.checked_add(about)?;
            }
            // One line, or a null.
            _ => {}
        }
    }
    Some(bytes.len() - rest.len())
}

/// The first line, and what comes after it.
fn line(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = bytes.windows(2).position(|pair| pair == b"\r\n")?;
    Some((&bytes[..end], &bytes[end + 2..]))
}

fn number(text: &[u8]) -> Option<usize> {
    crate::message::number(text).and_then(|number| usize::try_from(number).ok())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tokio::io::AsyncReadExt as _;

    use super::*;

    /// Gives a few bytes at a time, as networks do.
    struct Pieces(Vec<Vec<u8>>);

    impl AsyncRead for Pieces {
        fn poll_read(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            out: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            if let Some(first) = self.0.first_mut() {
                let count = first.len().min(out.remaining());
                out.put_slice(&first[..count]);
                first.drain(..count);
                if first.is_empty() {
                    self.0.remove(0);
                }
            }
            Poll::Ready(Ok(()))
        }
    }

    fn bulk(text: &[u8]) -> Vec<u8> {
        let length = format!("${}\r\n", text.len());
        [length.as_bytes(), text, b"\r\n"].concat()
    }

    fn message(kind: &str, channel: &[u8], payload: &[u8]) -> Vec<u8> {
        [
            b">3\r\n".to_vec(),
            bulk(kind.as_bytes()),
            bulk(channel),
            bulk(payload),
        ]
        .concat()
    }

    #[derive(Clone, Debug)]
    enum Part {
        Message(bool, Vec<u8>, Vec<u8>),
        Other(Vec<u8>),
    }

    fn part() -> impl Strategy<Value = Part> {
        let text = || prop::collection::vec(any::<u8>(), 0..12);
        let long = prop_oneof![9 => text(), 1 => Just(vec![b'\r'; 40_000])];
        let others: [&[u8]; 10] = [
            b"+OK\r\n",
            b"-ERR no\r\n",
            b":7\r\n",
            b"_\r\n",
            b"$-1\r\n",
            b"*0\r\n",
            b"%1\r\n$1\r\na\r\n*2\r\n:1\r\n$3\r\n\r\n>\r\n",
            b">3\r\n$9\r\nsubscribe\r\n$1\r\nc\r\n:1\r\n",
            b">2\r\n$10\r\ninvalidate\r\n*1\r\n$1\r\nk\r\n",
            b"|1\r\n+ttl\r\n:3\r\n>3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$1\r\np\r\n",
        ];
        prop_oneof![
            2 => (any::<bool>(), text(), long).prop_map(|(s, c, p)| Part::Message(s, c, p)),
            1 => prop::sample::select(others.map(<[u8]>::to_vec).to_vec()).prop_map(Part::Other),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        #[test]
        fn messages_are_heard_and_all_else_passes_however_it_is_cut(
            parts in prop::collection::vec(part(), 0..12),
            cuts in prop::collection::vec(1usize..40, 1..8),
        ) {
            let (mut bytes, mut messages, mut others) = (Vec::new(), Vec::new(), Vec::new());
            for part in parts {
                match part {
                    Part::Message(is_sharded, channel, payload) => {
                        let kind = if is_sharded { "smessage" } else { "message" };
                        bytes.extend(message(kind, &channel, &payload));
                        messages.push((channel, payload));
                    }
                    Part::Other(other) => {
                        bytes.extend(&other);
                        others.extend(other);
                    }
                }
            }
            let mut pieces = Vec::new();
            let mut cuts = cuts.iter().cycle();
            let mut rest = bytes.as_slice();
            while !rest.is_empty() {
                // Long ones in few pieces.
                let cut = cuts.next().unwrap() * if rest.len() > 1000 { 500 } else { 1 };
                let (piece, behind) = rest.split_at(cut.min(rest.len()));
                pieces.push(piece.to_vec());
                rest = behind;
            }
            let (mut heard, mut passed) = (Vec::new(), Vec::new());
            let hear = |channel: &[u8], payload: &[u8]| {
                heard.push((channel.to_vec(), payload.to_vec()));
            };
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let read = async { Tap::new(Pieces(pieces), hear).read_to_end(&mut passed).await };
            runtime.block_on(read).unwrap();
            prop_assert_eq!(heard, messages);
            prop_assert_eq!(passed, others);
        }
    }

    #[test]
    fn what_breaks_off_or_is_no_answer_passes() {
        let whole = message("message", b"channel", b"payload");
        let runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = { runtime }.build().unwrap();
        for broken in [
            &whole[..whole.len() - 3],
            b"nonsense",
            b"$9\r\nshort",
            b"\r\n\r\n",
        ] {
            let mut passed = Vec::new();
            let tap = Tap::new(Pieces(vec![broken.to_vec()]), |_: &[u8], _: &[u8]| {
                panic!("it is no message");
            });
            let read = async { { tap }.read_to_end(&mut passed).await };
            runtime.block_on(read).unwrap();
            assert_eq!(passed, broken);
        }
    }
}
