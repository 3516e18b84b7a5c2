//! Reads the verifier's log: why it refused a program, and over which line of the source.

use crate::object::SourceLine;

/// What a log tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    /// The last line that is not its statistics.
    pub(super) cause: Option<String>,
    /// The line of the source that the verifier was at, where it knows it.
    pub(super) line: Option<SourceLine>,
    /// The number of the instruction that it was at.
    pub(super) insn: Option<u64>,
}

impl Refusal {
    /// Reads a log.
    ///
    /// It has a line per instruction, `7: (79) r1 = *(u64 *)(r0 +8)`, and in front of the first that was made of a line
    /// of the source, `; return r->rx_bytes; @ edge.c:15`; the file is told since Linux 6.9.
    pub(super) fn read(log: &str) -> Self {
        const STATISTICS: [&str; 4] =
            ["processed ", "verification time", "stack depth", "max_states_per_insn"];
        let lines = || log.lines().map(str::trim);
        let cause = lines()
            .rfind(|line| !line.is_empty() && !STATISTICS.iter().any(|start| line.starts_with(start)))
            .map(|line| line.replace(char::is_control, " "));
        Self {
            cause,
            line: lines().rev().find_map(|line| line.strip_prefix("; ")).and_then(source_line),
            insn: lines().rev().find_map(|line| line.split_once(": (")?.0.parse().ok()),
        }
    }
}

fn source_line(comment: &str) -> Option<SourceLine> {
    let place = |place: &'_ str| {
        let (file, number) = place.rsplit_once(':')?;
        Some((file.to_owned(), number.parse().ok()?))
    };
    let told = comment.rsplit_once(" @ ").and_then(|(text, tail)| Some((text, place(tail)?)));
    let (text, (file, number)) = told.unwrap_or((comment, (String::new(), 0)));
    SourceLine::new(&file, number, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "0: R1=ctx() R10=fp0\n; __u32 key = 1; @ loop.c:13\n1: (63) *(u32 *)(r10 -4) = r6\n\
                       ; return r->rx_bytes; @ loop.c:15\n7: (79) r1 = *(u64 *)(r0 +8)\n\
                       R0 invalid mem access 'map_value_or_null'\n\
                       processed 7 insns (limit 1000000) max_states_per_insn 0\n";

    #[test]
    fn the_cause_is_the_last_line_that_is_not_statistics() {
        let refusal = Refusal::read(LOG);
        assert_eq!(refusal.cause.as_deref(), Some("R0 invalid mem access 'map_value_or_null'"));
        assert_eq!(Refusal::read(""), Refusal { cause: None, line: None, insn: None });
    }

    #[test]
    fn the_line_of_the_source_is_the_one_that_the_last_instruction_was_made_of() {
        let refusal = Refusal::read(LOG);
        assert_eq!(refusal.insn, Some(7));
        assert_eq!(refusal.line.unwrap().to_string(), "loop.c:15, `return r->rx_bytes;`");
    }

    #[test]
    fn kernels_before_6_9_tell_no_file() {
        let refusal = Refusal::read("; return r->rx_bytes;\n7: (79) r1 = 1\nR0 !read_ok\n");
        assert_eq!(refusal.line.unwrap().to_string(), "`return r->rx_bytes;`");
    }
}
