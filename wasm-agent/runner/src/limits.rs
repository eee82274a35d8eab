//! Every bound of a runner, in one place.
//!
//! What a job may ask for at most is also for who runs the node to say (`process::Settings::most`);
//! these hold whatever he says.

use core::time::Duration;

/// Most bytes of an encoded job.
pub const JOB_BYTES_MAX: usize = 24 << 20;
/// Most arguments, the program among them.
pub const ARGV_MAX: usize = 256;
/// Most bytes of all arguments and variables together.
pub const WORDS_BYTES_MAX: usize = 64 << 10;
/// Most variables of the environment.
pub const ENV_MAX: usize = 64;
/// Most files that come with a job.
pub const FILES_MAX: usize = 64;
/// Most bytes of all files that come with a job.
pub const FILES_BYTES_MAX: usize = 16 << 20;
/// Longest name of a file that comes with a job.
pub const FILE_NAME_MAX: usize = 64;
/// Most bytes of a job's input.
pub const STDIN_BYTES_MAX: usize = 4 << 20;
/// Most folders and files of the machine that a job sees.
pub const SEES_MAX: usize = 32;

/// Least memory: a stage, and then a small program, must fit.
pub const MEMORY_BYTES_MIN: u64 = 16 << 20;
/// Most memory that can be asked for.
pub const MEMORY_BYTES_MAX: u64 = 1 << 40;
/// Most bytes of a job's output, both streams together.
pub const OUTPUT_BYTES_MAX: u64 = 16 << 20;
/// Most bytes of a job's own files.
pub const SCRATCH_BYTES_MAX: u64 = 1 << 36;
/// Most processes and threads of a job.
pub const PIDS_MAX: u32 = 4_096;
/// Longest that a job can be asked to last.
pub const WALL_MAX: Duration = Duration::from_secs(7 * 24 * 3_600);
/// Most processors at once, in thousandths.
pub const CORES_MAX: u32 = 1_024_000;

/// Files and folders that a job may make.
pub const SCRATCH_INODES: u64 = 65_536;
/// Open files of one process of a job.
pub const OPEN_FILES: u64 = 1_024;

/// How often a budget that the kernel does not enforce is looked at.
pub const TICK: Duration = Duration::from_millis(5);
/// How long a job may go on with its memory full of what cannot be given back, before it is stopped.
pub const SQUEEZED: Duration = Duration::from_millis(500);
/// How long a stage may take until the job runs: a busy machine, a big binary.
pub const SETUP: Duration = Duration::from_secs(20);
/// How long those who are told to end may take before they are killed from outside.
pub const GRACE: Duration = Duration::from_secs(2);
/// How long a probe of a virtual machine may take.
pub const PROBE: Duration = Duration::from_secs(5);

/// Longest message of a stage.
pub const SAID_MAX: usize = 16 << 10;
/// Longest reason that a stage gives.
pub const WHY_MAX: usize = 1_024;

const _: () = assert!(
    JOB_BYTES_MAX
        > FILES_BYTES_MAX
            + STDIN_BYTES_MAX
            + WORDS_BYTES_MAX
            + FILES_MAX * (FILE_NAME_MAX + 64)
            + SEES_MAX * 4_096,
    "whatever is within the limits of a job can be encoded"
);
const _: () = assert!(WHY_MAX * 4 < SAID_MAX, "a reason fits into a message");
