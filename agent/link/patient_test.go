package link

import (
	"testing"
	"testing/synctest"
	"time"
)

// TestRelayedDataWaitsForRoom: once in vain, then not at all until something was taken;
// and not beyond the end of the device.
func TestRelayedDataWaitsForRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var p patient
		c := make(chan *packet, 1)
		c <- new(packet)
		waited := func(want bool, d time.Duration, over <-chan struct{}) {
			t.Helper()
			began := time.Now()
			if got := p.send(c, new(packet), over); got != want || time.Since(began) != d {
				t.Errorf("%t after %v, want %t after %v", got, time.Since(began), want, d)
			}
		}
		waited(false, patience, nil)
		waited(false, 0, nil)
		<-c
		p.taken()
		c <- new(packet)
		go func() { time.Sleep(patience / 2); <-c }()
		waited(true, patience/2, nil)
		over := make(chan struct{})
		go func() { time.Sleep(patience / 4); close(over) }()
		waited(false, patience/4, over)
	})
}
