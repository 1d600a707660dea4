//! MD5 (RFC 1321), which SQS answers with so that a client can tell a damaged body. It protects
//! nothing, and it is too small to be worth a dependency.

use crate::store::courier::hex;

const START: [u32; 4] = [0x6745_2301, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476];

/// By round: how far to rotate in each of four steps in turn.
const ROTATIONS: [[u32; 4]; 4] =
    [[7, 12, 17, 22], [5, 9, 14, 20], [4, 11, 16, 23], [6, 10, 15, 21]];

/// By round: which word the first step takes, and how many further each later one looks.
const WALKS: [(usize, usize); 4] = [(0, 1), (1, 5), (5, 3), (0, 7)];

/// The n-th is the whole part of 2^32 times the absolute sine of n + 1.
#[rustfmt::skip]
const SINES: [u32; 64] = [
    0xd76a_a478, 0xe8c7_b756, 0x2420_70db, 0xc1bd_ceee, 0xf57c_0faf, 0x4787_c62a, 0xa830_4613, 0xfd46_9501,
    0x6980_98d8, 0x8b44_f7af, 0xffff_5bb1, 0x895c_d7be, 0x6b90_1122, 0xfd98_7193, 0xa679_438e, 0x49b4_0821,
    0xf61e_2562, 0xc040_b340, 0x265e_5a51, 0xe9b6_c7aa, 0xd62f_105d, 0x0244_1453, 0xd8a1_e681, 0xe7d3_fbc8,
    0x21e1_cde6, 0xc337_07d6, 0xf4d5_0d87, 0x455a_14ed, 0xa9e3_e905, 0xfcef_a3f8, 0x676f_02d9, 0x8d2a_4c8a,
    0xfffa_3942, 0x8771_f681, 0x6d9d_6122, 0xfde5_380c, 0xa4be_ea44, 0x4bde_cfa9, 0xf6bb_4b60, 0xbebf_bc70,
    0x289b_7ec6, 0xeaa1_27fa, 0xd4ef_3085, 0x0488_1d05, 0xd9d4_d039, 0xe6db_99e5, 0x1fa2_7cf8, 0xc4ac_5665,
    0xf429_2244, 0x432a_ff97, 0xab94_23a7, 0xfc93_a039, 0x655b_59c3, 0x8f0c_cc92, 0xffef_f47d, 0x8584_5dd1,
    0x6fa8_7e4f, 0xfe2c_e6e0, 0xa301_4314, 0x4e08_11a1, 0xf753_7e82, 0xbd3a_f235, 0x2ad7_d2bb, 0xeb86_d391,
];

/// The digest in lower-case hex.
pub(crate) fn md5_hex(message: &[u8]) -> String {
    let bits = u64::try_from(message.len()).unwrap_or(u64::MAX).wrapping_mul(8);
    let mut padded = message.to_vec();
    padded.push(0x80);
    padded.resize(padded.len().next_multiple_of(64), 0);
    if padded.len() - message.len() < 9 {
        padded.resize(padded.len() + 64, 0);
    }
    padded.truncate(padded.len() - 8);
    padded.extend(bits.to_le_bytes());
    let digest = padded.chunks_exact(64).fold(START, mix);
    hex(&digest.map(u32::to_le_bytes).concat())
}

fn mix(state: [u32; 4], block: &[u8]) -> [u32; 4] {
    let mut words = [0; 16];
    for (word, bytes) in words.iter_mut().zip(block.chunks_exact(4)) {
        *word = bytes.iter().rfold(0, |word, byte| (word << 8) | u32::from(*byte));
    }
    let [mut a, mut b, mut c, mut d] = state;
    for (round, ((sines, rotations), (first, stride))) in
        SINES.chunks_exact(16).zip(ROTATIONS).zip(WALKS).enumerate()
    {
        let walk = words.iter().cycle().skip(first).step_by(stride);
        for ((sine, word), rotation) in sines.iter().zip(walk).zip(rotations.iter().cycle()) {
            let chosen = match round {
                0 => (b & c) | (!b & d),
                1 => (b & d) | (c & !d),
                2 => b ^ c ^ d,
                _ => c ^ (b | !d),
            };
            let sum = a.wrapping_add(chosen).wrapping_add(*word).wrapping_add(*sine);
            (a, b, c, d) = (d, b.wrapping_add(sum.rotate_left(*rotation)), b, c);
        }
    }
    let mut mixed = state;
    for (before, after) in mixed.iter_mut().zip([a, b, c, d]) {
        *before = before.wrapping_add(after);
    }
    mixed
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A client that checks the digest would refuse every message. The vectors are RFC 1321's own,
    /// and the lengths around a block's end are where padding goes wrong.
    #[test]
    fn it_digests_as_the_standard_says() {
        for (message, digest) in [
            ("", "d41d8cd98f00b204e9800998ecf8427e"),
            ("a", "0cc175b9c0f1b6a831c399e269772661"),
            ("abc", "900150983cd24fb0d6963f7d28e17f72"),
            ("message digest", "f96b697d7cb7938d525a2f31aaf161d0"),
            ("abcdefghijklmnopqrstuvwxyz", "c3fcd3d76192e4007dfb496cca67e13b"),
            (
                "12345678901234567890123456789012345678901234567890123456789012345678901234567890",
                "57edf4a22be3c955ac49da2e2107b67a",
            ),
        ] {
            assert_eq!(md5_hex(message.as_bytes()), digest);
        }
        for (length, digest) in [
            (55, "ef1772b6dff9a122358552954ad0df65"),
            (56, "3b0c8ac703f828b04c6c197006d17218"),
            (63, "b06521f39153d618550606be297466d5"),
            (64, "014842d480b571495a4a0363793f7367"),
        ] {
            assert_eq!(md5_hex(&vec![b'a'; length]), digest);
        }
    }
}
