//go:build !linux

package bench

import "runtime"

// resident is what the runtime has of the system, in MB: more than is resident.
func resident() (now, most float64) {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	mb := float64(m.Sys-m.HeapReleased) / (1 << 20)
	return mb, mb
}

func forgetPeak() {}
