//! A static program for x86-64 that makes the system calls of a list and prints what each answered.
//!
//! It has no C library between it and the kernel: any number, any register, and the 32-bit gate `int 0x80` too.

/// Where the program lies in memory, below 4 GiB so that 32-bit calls can point into it.
const BASE: u64 = 0x40_0000;
/// The file's headers: ELF and one program header.
const HEADERS: u64 = 64 + 56;
/// The signal action and the data that calls point at.
const ACTION: u64 = BASE + 0x7000;
const MEMORY: u64 = BASE + 0x8000;
/// What the calls answered.
const RESULTS: u64 = BASE + 0x9000;
const SIZE: u64 = 0xa000;

/// The status that a program ends with where SIGSYS came ([`Calls::survive_trap`]).
pub const TRAPPED: i32 = 77;

/// A program in the making.
#[derive(Debug, Default)]
pub struct Calls {
    code: Vec<u8>,
    memory: Vec<u8>,
    made: u64,
    handles_trap: bool,
}

impl Calls {
    /// A program that makes no call but those to print and to end.
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes a call by `syscall`, the number and the arguments as 64-bit registers.
    pub fn call(mut self, number: u64, args: &[u64]) -> Self {
        // rdi rsi rdx r10 r8 r9
        let registers = [[0x48, 0xbf], [0x48, 0xbe], [0x48, 0xba], [0x49, 0xba], [0x49, 0xb8], [0x49, 0xb9]];
        self.load(number, args, registers);
        self.code.extend([0x0f, 0x05]);
        self.keep_result();
        self
    }

    /// Makes a call by `int 0x80`, which the kernel takes for one of a 32-bit process.
    pub fn int80(mut self, number: u64, args: &[u64]) -> Self {
        // rbx rcx rdx rsi rdi rbp
        let registers = [[0x48, 0xbb], [0x48, 0xb9], [0x48, 0xba], [0x48, 0xbe], [0x48, 0xbf], [0x48, 0xbd]];
        self.load(number, args, registers);
        // int 0x80; cdqe
        self.code.extend([0xcd, 0x80, 0x48, 0x98]);
        self.keep_result();
        self
    }

    /// Puts 32-bit words into memory and tells where they are.
    pub fn words(&mut self, words: &[u32]) -> u64 {
        let address = MEMORY + self.memory.len() as u64;
        self.memory.extend(words.iter().flat_map(|word| word.to_le_bytes()));
        address
    }

    /// Ends with [`TRAPPED`] when SIGSYS comes, which a filter's TRAP sends and its KILL does not.
    pub fn survive_trap(mut self) -> Self {
        self.handles_trap = true;
        self.call(13, &[31, ACTION, 0, 8])
    }

    /// The program's file.
    pub fn program(mut self) -> Vec<u8> {
        let length = self.made * 8;
        self = self.call(1, &[1, RESULTS, length]).call(231, &[0]);
        // mov edi, 77; mov eax, 231; syscall
        let handler = [0xbf, 77, 0, 0, 0, 0xb8, 0xe7, 0, 0, 0, 0x0f, 0x05];
        let entry = BASE + HEADERS + handler.len() as u64;
        let mut file = headers(entry);
        file.extend(handler);
        file.extend(&self.code);
        assert!(file.len() as u64 <= ACTION - BASE, "the list of calls is too long");
        file.resize((ACTION - BASE) as usize, 0);
        // SA_SIGINFO | SA_RESTORER; nothing returns from the handler.
        let handler = BASE + HEADERS;
        file.extend([handler, 0x0400_0004, handler, 0].iter().flat_map(|word: &u64| word.to_le_bytes()));
        file.resize((MEMORY - BASE) as usize, 0);
        file.extend(&self.memory);
        file.resize(SIZE as usize, 0);
        file
    }

    /// What the calls answered, from the program's output: a negative number is an errno.
    pub fn results(output: &[u8]) -> Vec<i64> {
        let words = output.chunks_exact(8);
        words.map(|word| i64::from_le_bytes(word.try_into().expect("eight bytes"))).collect()
    }

    fn load(&mut self, number: u64, args: &[u64], registers: [[u8; 2]; 6]) {
        for (register, arg) in registers.iter().zip(args.iter().chain(std::iter::repeat(&0))) {
            self.code.extend(register);
            self.code.extend(arg.to_le_bytes());
        }
        self.code.extend([0x48, 0xb8]);
        self.code.extend(number.to_le_bytes());
    }

    /// mov [result], rax
    fn keep_result(&mut self) {
        self.code.extend([0x48, 0xa3]);
        self.code.extend((RESULTS + self.made * 8).to_le_bytes());
        self.made += 1;
    }
}

/// ELF for x86-64 with one segment that can be read, written and executed (elf(5)).
fn headers(entry: u64) -> Vec<u8> {
    let mut out = b"\x7fELF\x02\x01\x01".to_vec();
    out.resize(16, 0);
    let half = |out: &mut Vec<u8>, values: &[u16]| out.extend(values.iter().flat_map(|v| v.to_le_bytes()));
    let word = |out: &mut Vec<u8>, values: &[u32]| out.extend(values.iter().flat_map(|v| v.to_le_bytes()));
    let long = |out: &mut Vec<u8>, values: &[u64]| out.extend(values.iter().flat_map(|v| v.to_le_bytes()));
    // ET_EXEC, EM_X86_64, version, entry, program headers at 64, no sections, no flags
    half(&mut out, &[2, 62]);
    word(&mut out, &[1]);
    long(&mut out, &[entry, 64, 0]);
    word(&mut out, &[0]);
    half(&mut out, &[64, 56, 1, 0, 0, 0]);
    // PT_LOAD, rwx
    word(&mut out, &[1, 7]);
    long(&mut out, &[0, BASE, BASE, SIZE, SIZE, 0x1000]);
    out
}

#[cfg(test)]
#[cfg(target_arch = "x86_64")]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;
    use std::process::Command;

    #[test]
    fn the_program_makes_its_calls_and_prints_their_answers() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("calls");
        let mut calls = Calls::new();
        let address = calls.words(&[2, 1, 0]);
        let calls = calls.call(39, &[]).call(3, &[u64::MAX]).int80(20, &[]).int80(102, &[1, address]);
        std::fs::write(&path, calls.program()).expect("write");
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).expect("chmod");
        let output = Command::new(&path).output().expect("run");
        let results = Calls::results(&output.stdout);
        assert!(output.status.success() && results.len() == 4, "{output:?}");
        assert!(results[0] > 1 && results[1] == -9 && results[2] == results[0], "{results:?}");
        assert!(results[3] >= 3, "a socket: {results:?}");
    }
}
