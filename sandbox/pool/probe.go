package pool

import (
	"runtime"
	"time"

	"enclave/sandbox/jail"
)

// Report is what this machine gives a worker.
type Report struct {
	Walls   jail.Walls    `json:"walls"`
	Missing jail.Walls    `json:"missing"`
	Enough  bool          `json:"enough"` // for STRICT and SECURE
	Need    string        `json:"need,omitempty"`
	Why     string        `json:"why,omitempty"` // there are no namespaces
	Start   time.Duration `json:"startNs"`       // from nothing to a worker that is ready
	Memory  int64         `json:"memoryBytes"`   // resident, before it runs anything
}

// Probe starts one worker and says which walls stand around it.
func Probe() (Report, error) {
	exe, err := jail.Executable()
	if err != nil {
		return Report{}, err
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var r Report
	began := time.Now()
	w, err := start(alone(exe, true))
	if err != nil && jail.NoNamespaces(err) {
		r.Why = err.Error()
		began = time.Now()
		w, err = start(alone(exe, false))
	}
	if err != nil {
		return Report{}, err
	}
	r.Start = time.Since(began)
	r.Memory = jail.Resident(w.os.Pid)
	w.end()
	r.Walls, r.Missing = w.walls, w.walls.Missing()
	r.Enough, r.Need = w.walls.Enough()
	return r, nil
}
