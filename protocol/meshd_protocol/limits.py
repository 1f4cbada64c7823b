"""Every bound of the protocol with its arithmetic, checked before anything is buffered. Spec: 03-limits.md."""

from typing import Final

KIB: Final = 1 << 10
MIB: Final = 1 << 20

# --- frames -------------------------------------------------------------------------------------------------------

# length (4, of all that follows) + kind (1) + stream (4).
FRAME_HEADER_BYTES: Final = 9
# A bulk slice (1 MiB) plus the largest envelope around it.
SLICE_BYTES_MAX: Final = MIB
FRAME_BYTES_MAX: Final = SLICE_BYTES_MAX + 4096
# Before a peer has said who it is, nothing larger than a hello with two certificates (2 x 1.5 KiB) is read.
HELLO_BYTES_MAX: Final = 16 * KIB
# One argument or one result. Larger data belongs in files until blobs exist.
UNIT_BYTES_MAX: Final = 64 * MIB
# A message that carries the largest unit; between nodes it travels in slices on the bulk connection.
MESSAGE_BYTES_MAX: Final = UNIT_BYTES_MAX + MIB
# On a local socket both ends are on one machine: a message is one frame.
LOCAL_FRAME_BYTES_MAX: Final = MESSAGE_BYTES_MAX
# Messages above this leave on the bulk connection. At 0.5 GB/s (trio's TLS, measured) it delays a ping by 0.25 ms.
CONTROL_BYTES_MAX: Final = 128 * KIB
# Large messages that one peer may be sending to us at the same time, in all their slices.
ASSEMBLY_BYTES_MAX: Final = 2 * MESSAGE_BYTES_MAX

# --- jobs ---------------------------------------------------------------------------------------------------------

TRANCHE_UNITS_MAX: Final = 256
BATCH_UNITS_MAX: Final = 256
# A batch is closed at this size, so that one frame of small units stays on the control connection.
BATCH_BYTES: Final = 96 * KIB
# An index is a u32 in receipts; ten million units of 300 bytes of owner's state each are 3 GB: the owner's limit.
JOB_UNITS_MAX: Final = 10_000_000
REPLICAS_MAX: Final = 16
ATTEMPTS_MAX: Final = 32
FUNCTION_BYTES_MAX: Final = UNIT_BYTES_MAX
# An executor keeps an owner's newest tranches, of all its jobs together, up to this many digests (4 MiB), and the owner
# knows it: it sends an older one again before it leases from it. A tranche counts as its digests and TRANCHE_WEIGHT
# more, the 512 bytes that one costs whatever its size: 481 full tranches, or 7,710 of one unit.
DIGESTS_KEPT: Final = 131_072
TRANCHE_WEIGHT: Final = 16
# Functions of one job: an Executor sees few, and each costs its bytes on every executor.
JOB_FUNCTIONS_MAX: Final = 65_536
NAME_CHARS_MAX: Final = 200
# Text that explains (reasons, tracebacks) is cut at this length by whoever makes it.
REASON_CHARS_MAX: Final = 500
TRACEBACK_CHARS_MAX: Final = 16_000
# Durations are counted in ms; thirty days.
DURATION_MS_MAX: Final = 30 * 24 * 3_600 * 1_000

# --- programs -----------------------------------------------------------------------------------------------------

# Linux takes arguments and variables of 128 KiB; a character has up to four bytes.
ARGUMENT_CHARS_MAX: Final = 32 * KIB - 1
ARGUMENTS_MAX: Final = 4096
# 4096 bytes are the most that a system call takes, and 255 those of one name.
PATH_CHARS_MAX: Final = KIB - 1
PATH_PART_BYTES_MAX: Final = 255
FILES_MAX: Final = 4096
OUTPUT_PATTERNS_MAX: Final = 256
# Streams, files and the names of files together; what is left of a unit's bytes is for their lengths.
PROGRAM_OUTPUT_BYTES_MAX: Final = UNIT_BYTES_MAX - MIB
WASM_PAGE_BYTES: Final = 64 * KIB
WASM_MEMORY_BYTES_MAX: Final = 1 << 32
# Of one run, in memory: what it is given, and what it writes.
WASM_FILES_BYTES_MAX: Final = 256 * MIB
WASM_CALLS_MAX: Final = 65_536
WASM_PARAMETERS_MAX: Final = 64

# --- environments -------------------------------------------------------------------------------------------------

# A package has up to some hundred files, each 79 bytes of a lock: a lock of 200 packages has about 400 KiB.
LOCK_BYTES_MAX: Final = MIB
LOCK_PINS_MAX: Final = 1_024
LOCK_HASHES_MAX: Final = 1_024
# What a node may take to build an environment, other builds before it included; owners are so patient.
ENVIRONMENT_BUILD_S: Final = 900

# --- members ------------------------------------------------------------------------------------------------------

# A certificate of ours has about 450 bytes; foreign extensions may double it twice.
CERTIFICATE_BYTES_MAX: Final = 2 * KIB
# `core` has two certificates (4 KiB at most) and up to 16 addresses of 80 characters.
STATE_BYTES_MAX: Final = 6 * KIB
STATES_PER_MESSAGE_MAX: Final = 128
# A digest has 32 bytes: 4096 of them fill one message of 128 KiB.
STATE_DIGESTS_MAX: Final = 4096
# A claim has about 150 bytes with its signature: 64 of them are 10 KB, which one rumour tick may carry.
CLAIMS_PER_MESSAGE_MAX: Final = 64
# Ids, dates, an operator of 64 characters and a reason of 200, in ASCII.
REVOCATION_BYTES_MAX: Final = 512
# A revocation has about 700 bytes with its issuer's certificate.
REVOCATIONS_PER_MESSAGE_MAX: Final = 32
# Kept until the revoked certificates have ended, 180 days at most: more than 50 a day for a mesh of 10,000.
REVOCATIONS_MAX: Final = 10_000
# A full view of this size takes 3 to 10 MB; larger meshes need a sampled one.
MEMBERS_MAX: Final = 10_000
ADDRESSES_MAX: Final = 16
ADDRESS_CHARS_MAX: Final = 80
GPUS_MAX: Final = 64
ROLES_MAX: Final = 8
OPERATOR_CHARS_MAX: Final = 64
# Certificates are backdated, and clocks of one mesh may differ by this much.
CLOCK_SKEW_S: Final = 120
BACKDATE_S: Final = 300
# A node's certificate is renewed at a third of its life, so an issuer may be away for 60 days before a node is cut off.
NODE_CERTIFICATE_S: Final = 90 * 24 * 3_600
# An issuer that has not heard of a revocation may renew what was revoked: it outlasts one life more.
REVOCATION_S: Final = 2 * NODE_CERTIFICATE_S
# An issuer's certificate needs the root key to be renewed, which may lie in a safe: five years.
ISSUER_CERTIFICATE_S: Final = 5 * 365 * 24 * 3_600

# --- directory ----------------------------------------------------------------------------------------------------

# A contact record holds 8 addresses of 80 characters; a job's, its guardians.
RECORD_VALUE_BYTES_MAX: Final = KIB
# An id has 20 bytes, a digest 32.
RECORD_NAME_BYTES_MAX: Final = 64
# The value, the name, two ids and what else is in a record: 140 bytes with every length.
RECORD_BYTES_MAX: Final = RECORD_VALUE_BYTES_MAX + RECORD_NAME_BYTES_MAX + 192
# What a clock that is right may still find ahead of it; publishers sign anew at a third of what they ask for.
RECORD_TTL_S_MAX: Final = 24 * 3_600
# Who surrounds one place of the directory does not surround three.
RECORD_SALTS: Final = 3
# k of Kademlia: so many nodes nearest to a key hold what is under it.
CONTACTS_PER_MESSAGE_MAX: Final = 20
CONTACT_ADDRESSES_MAX: Final = 8
# With two certificates of 2 KiB each, 16 records have 85 KiB, 20 contacts 13 KiB: one control frame.
RECORDS_PER_MESSAGE_MAX: Final = 16

# --- tokens -------------------------------------------------------------------------------------------------------

TOKEN_CHARS_MAX: Final = 8 * KIB
SEEDS_MAX: Final = 8
INVITE_USES_MAX: Final = 10_000
# An invite is a secret that lies in shells' histories and chats: a day by default, a month at most.
INVITE_TTL_S: Final = 24 * 3_600
INVITE_TTL_S_MAX: Final = 30 * 24 * 3_600

# --- values -------------------------------------------------------------------------------------------------------

# Nesting of a value; below CPython's default recursion limit with room for the caller's own frames.
VALUE_DEPTH_MAX: Final = 64
# An integer of 4096 bytes has about 9,900 decimal digits; larger ones would cost quadratic time to print.
INTEGER_BYTES_MAX: Final = 4096
