package pool

import (
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
	Group   int           `json:"memoryCgroup"`  // the version of cgroups that bounds all workers together; 0: none
	NoGroup string        `json:"whyNoMemoryCgroup,omitempty"`
	Start   time.Duration `json:"startNs"`     // from nothing to a worker that is ready
	Memory  int64         `json:"memoryBytes"` // resident, before it runs anything
}

// Probe starts one worker and says which walls stand around it.
func Probe() (Report, error) {
	exe, err := jail.Executable()
	if err != nil {
		return Report{}, err
	}
	// The thread may end up in a group, which it does not leave: it ends.
	var r Report
	g, none := jail.NewGroup(totalMemory(Config{}.withDefaults()))
	if none != nil {
		g = nil
	}
	done := make(chan struct{})
	go jail.OnThread(func() {
		defer close(done)
		r, err = probeHere(exe, g)
	})
	<-done
	g.Close()
	if none != nil {
		r.NoGroup = none.Error()
	}
	return r, err
}

func probeHere(exe string, g *jail.Group) (Report, error) {
	var r Report
	if err := g.Enter(); err != nil {
		g, r.NoGroup = nil, err.Error()
	}
	r.Group = g.Version()
	began := time.Now()
	w, err := start(alone(exe, true, g))
	if err != nil && jail.NoNamespaces(err) {
		r.Why = err.Error()
		began = time.Now()
		w, err = start(alone(exe, false, g))
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
