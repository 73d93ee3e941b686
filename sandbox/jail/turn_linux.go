package jail

import (
	"os"
	"strconv"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Who gets the processor when there is more to do than there are processors. The kernel
// (EEVDF, Linux 6.6 and later) lets a thread that wakes take the processor from one that
// runs only if the latter's turn is over or longer than its own (6.12 and later), and
// looks for turns that are over at its ticks: up to 4 ms later, several times a run. So
// threads that work in short bursts ask for short turns. How much of the processor they
// get does not follow from that. Decision 0177.

// shortTurn is the shortest that the kernel gives.
const shortTurn = 100 * time.Microsecond

// Hurry gives the threads of this process short turns, and with them what they start:
// none waits for the end of others' turns. Where the kernel knows none, nothing changes.
func Hurry() {
	everyThread(os.Getpid(), func(tid int) {
		if a, err := unix.SchedGetAttr(tid, 0); err == nil && a.Policy == unix.SCHED_NORMAL {
			_ = unix.SchedSetAttr(tid, &unix.SchedAttr{Size: unix.SizeofSchedAttr, Nice: a.Nice, Runtime: uint64(shortTurn)}, 0)
		}
	})
}

// Demote lets everybody else have the processor first: a run that computes for long
// is not to slow down those that do not. Its threads get the least weight that is not
// none, since one that is killed must still get to its end while others compute, and
// never take the processor from who has it (SCHED_BATCH). And they leave one processor
// alone: whoever wakes finds a free one, where the least weight alone would still make it
// wait for a tick whenever it is owed nothing for the moment. There is no way back for
// the weight without privileges.
func Demote(pid int) {
	most := allButOne()
	everyThread(pid, func(tid int) {
		if most != nil {
			_ = unix.SchedSetaffinity(tid, most)
		}
		_ = unix.SchedSetAttr(tid, &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_BATCH, Nice: 19}, 0)
	})
}

// everyThread calls f for each thread, those included that are made meanwhile.
func everyThread(pid int, f func(tid int)) {
	done := map[int]bool{}
	for again := true; again; {
		again = false
		tasks, err := os.ReadDir("/proc/" + strconv.Itoa(pid) + "/task")
		if err != nil {
			return
		}
		for _, t := range tasks {
			tid, err := strconv.Atoi(t.Name())
			if err != nil || done[tid] {
				continue
			}
			done[tid], again = true, true // it may have made another one before
			f(tid)
		}
	}
}

// Demoted reports whether all threads of the process give way.
func Demoted(pid int) bool {
	tasks, err := os.ReadDir("/proc/" + strconv.Itoa(pid) + "/task")
	if err != nil {
		return false
	}
	most := allButOne()
	for _, t := range tasks {
		tid, _ := strconv.Atoi(t.Name())
		var on unix.CPUSet
		if most != nil && unix.SchedGetaffinity(tid, &on) == nil && on != *most {
			return false
		}
		if a, err := unix.SchedGetAttr(tid, 0); err == nil && (a.Policy != unix.SCHED_BATCH || a.Nice != 19) {
			return false
		}
	}
	return true
}

// allButOne is all processors of this process without the first, nil if there is one.
func allButOne() *unix.CPUSet {
	var set unix.CPUSet
	if unix.SchedGetaffinity(0, &set) != nil || set.Count() < 2 {
		return nil
	}
	for cpu := range 8 * int(unsafe.Sizeof(set)) {
		if set.IsSet(cpu) {
			set.Clear(cpu)
			break
		}
	}
	return &set
}
