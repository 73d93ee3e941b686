// Package jail builds the walls around a worker process. It is the only folder that
// makes namespace, mount, capability, landlock, seccomp and rlimit calls.
//
// The walls are built from two sides. Command gives the parent a command that starts
// the process in namespaces of its own, with no environment and a parent-death signal;
// Enter, called by the worker before it has read one byte of a script, builds the
// rest from inside and says what stands. A wall that this machine does not give is
// missing from the answer, never an error: what is needed for which level is
// Walls.Enough, and decision 0124 says why.
//
// After Enter the process can compute, read and write the pipes it holds, and end.
// Any other system call kills it. Elsewhere than on Linux there are no walls but
// the process itself, and Enter says so.
package jail

import "strings"

// Origin is how a worker was started.
type Origin string

// The origins.
const (
	Bare   Origin = "bare"   // by Command without namespaces
	Alone  Origin = "alone"  // by Command with all of them
	Nursed Origin = "nursed" // by a nursery
)

// Wall is one thing between the worker and the machine.
type Wall string

// The walls, outermost first.
const (
	Process    Wall = "process"      // an address space and an environment of its own, ends with its parent
	UserNS     Wall = "user-ns"      // its root is nobody here
	PIDNS      Wall = "pid-ns"       // it sees no other process
	NetNS      Wall = "net-ns"       // no network device but a dead loopback
	IPCNS      Wall = "ipc-ns"       // no shared memory or message queue
	UTSNS      Wall = "uts-ns"       // no host name
	EmptyRoot  Wall = "empty-root"   // its file system is one empty read-only directory
	NoCaps     Wall = "no-caps"      // every capability dropped, for good
	NoNewPrivs Wall = "no-new-privs" // exec could never give any back
	Landlock   Wall = "landlock"     // no file, no port, no signal, whatever the rest says
	Rlimits    Wall = "rlimits"      // memory, files, processes and core dumps bounded by the kernel
	Seccomp    Wall = "seccomp"      // an allow list of system calls; any other kills
)

// All lists the walls in order.
func All() []Wall {
	return []Wall{Process, UserNS, PIDNS, NetNS, IPCNS, UTSNS, EmptyRoot, NoCaps, NoNewPrivs, Landlock, Rlimits, Seccomp}
}

// Says explains a wall in a few words.
func (w Wall) Says() string {
	return map[Wall]string{
		Process:    "a process of its own: no environment, two pipes, ends with its parent",
		UserNS:     "a user namespace: its root is nobody on this machine",
		PIDNS:      "a process namespace: it sees and signals nobody",
		NetNS:      "a network namespace: no device, no address",
		IPCNS:      "an IPC namespace: no shared memory, no queues",
		UTSNS:      "a host name of its own",
		EmptyRoot:  "a file system that is one empty, read-only directory",
		NoCaps:     "every capability dropped",
		NoNewPrivs: "no program could give privileges back",
		Landlock:   "the kernel's file and network sandbox, with nothing allowed",
		Rlimits:    "memory, files and processes bounded by the kernel",
		Seccomp:    "an allow list of system calls: any other one kills",
	}[w]
}

// Walls is what stands.
type Walls []Wall

// Has reports whether w stands.
func (ws Walls) Has(w Wall) bool {
	for _, x := range ws {
		if x == w {
			return true
		}
	}
	return false
}

// Missing lists what does not stand.
func (ws Walls) Missing() Walls {
	out := Walls{}
	for _, w := range All() {
		if !ws.Has(w) {
			out = append(out, w)
		}
	}
	return out
}

// Enough says whether these walls hold a script at STRICT and SECURE: the system-call
// list, no way to gain privileges, the kernel's bounds on memory, and a second wall
// of another kind before the files. If not, why lists what is needed.
func (ws Walls) Enough() (ok bool, why string) {
	var need []string
	for _, w := range []Wall{Seccomp, NoNewPrivs, Rlimits} {
		if !ws.Has(w) {
			need = append(need, string(w))
		}
	}
	if !ws.Has(Landlock) && !ws.Has(EmptyRoot) {
		need = append(need, "landlock or empty-root")
	}
	return len(need) == 0, strings.Join(need, ", ")
}
