package jail

// Helper is what holds a program of the operator's that serves tools: a process that
// has to reach files or the network to be of use, and is believed more than a script.
// Its walls are those that its declaration names, on top of an environment of its own
// (the caller's business), a process group, a parent-death signal, no way to gain
// privileges, no core dumps, a bounded number of open files, and a list of system calls that
// fail, since no such program needs them. Without Files it reads what its user may read.
type Helper struct {
	Files       bool     // it reaches the files below Read and Write, the system's programs, and no others; and has no capabilities
	Read, Write []string // absolute paths; Write may be read too
	NoNetwork   bool     // a network namespace of its own, without devices
	Memory      int64    // bytes of private memory of each of its processes; 0 is no limit
}

// HelperOpenFiles bounds the open files of a helper.
const HelperOpenFiles = 1024
