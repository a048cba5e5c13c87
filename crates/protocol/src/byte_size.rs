//! The one spelling of a number of bytes: `512 B`, `8MB`, `1.5 GiB`.

/// Decimal and binary units, each beside what it stands for. `k` alone could be either, so it is none.
const UNITS: [(&str, u64); 9] = [
    ("B", 1),
    ("KB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
];

/// Reads a whole number of bytes, in a unit of `B`, `KB`, `MB`, `GB`, `TB` (thousands) or `KiB`, `MiB`, `GiB`, `TiB` (1024s),
/// in capitals or not; without one it is bytes.
///
/// # Errors
/// A sentence that shows the accepted form; also where it is more than can be counted.
pub fn parse(text: &str) -> Result<u64, String> {
    let text = text.trim();
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let refused = || format!("`{text}` is no number of bytes such as 500000, 8MB, 512KiB or 1GiB");
    let number: u64 = number.parse().map_err(|_| refused())?;
    let size = match unit.trim_start() {
        "" => 1,
        unit => UNITS.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit)).ok_or_else(refused)?.1,
    };
    // The broker counts them with a sign.
    let bytes = number.checked_mul(size).filter(|bytes| i64::try_from(*bytes).is_ok());
    bytes.ok_or_else(|| format!("`{text}` is more than any store holds"))
}

/// Writes it with one digit behind the point, in 1024s: `1.5 KiB`.
pub fn format(count: u64) -> String {
    let units = [("GiB", 1_u64 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    match units.into_iter().find(|(_, size)| count >= *size) {
        Some((unit, size)) => format!("{}.{} {unit}", count / size, count % size * 10 / size),
        None => format!("{count} B"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_read_as_people_write_it() {
        for (text, bytes) in [
            ("0", 0),
            ("1048576", 1 << 20),
            ("512 B", 512),
            ("8MB", 8_000_000),
            ("8mb", 8_000_000),
            (" 8 MiB ", 8 << 20),
            ("1GiB", 1 << 30),
            ("2kib", 2_048),
        ] {
            assert_eq!(parse(text), Ok(bytes), "{text}");
        }
        for text in ["", "MB", "8M", "1.5GB", "-1", "8 MB!", "99999999999999999999", "9000000TiB"] {
            let refusal = parse(text).unwrap_err();
            assert!(refusal.contains("8MB") || refusal.contains("more than any store"), "{refusal}");
        }
    }

    #[test]
    fn it_is_told_in_one_unit() {
        let told = [0, 1_023, 1_536, 8 << 20, (5 << 30) + (1 << 29)].map(format);
        assert_eq!(told, ["0 B", "1023 B", "1.5 KiB", "8.0 MiB", "5.5 GiB"]);
    }
}
