package path

import (
	"testing"
	"time"
)

// sized is a pair of which only datagrams up to carries get through, both ways.
func sized(t *testing.T, full int, carries *int) *sim {
	s := newSim(t, "easy", "easy")
	s.fits = func(size int) bool { return size <= *carries }
	for _, h := range s.hosts {
		h.SetSize(full)
	}
	return s
}

func TestSizeOfAPath(t *testing.T) {
	for _, tt := range []struct {
		full, carries int
		direct        bool
		size          int // as Size says
	}{
		{1312, 1500, true, 0},
		{1312, 1312, true, 0},
		{1312, 1311, true, 1280},
		{1312, 1232, true, 1232},
		{1312, 1231, true, 1024},
		{1312, MinSize, true, MinSize},
		{1312, MinSize - 1, false, 0},
		{1452, 1452, true, 0},
		{1452, 1451, true, 1412},
		{9000, 1472, true, 1472},
		{9000, 9000, true, 0},
	} {
		s := sized(t, tt.full, &tt.carries)
		s.run(10*time.Second, true)
		if s.direct() != tt.direct || s.hosts[0].Size() != tt.size {
			t.Errorf("%d of %d bytes: direct %v, size %d; want %v, %d", tt.carries, tt.full, s.direct(), s.hosts[0].Size(), tt.direct, tt.size)
		}
		if why := s.hosts[0].Why(s.now); !tt.direct && why != WhyNarrow {
			t.Errorf("%d of %d bytes: why %q", tt.carries, tt.full, why)
		}
	}
}

func TestNarrowPathWithoutARelay(t *testing.T) {
	carries := MinSize - 100
	s := sized(t, 1312, &carries)
	s.run(time.Second, true)
	for _, h := range s.hosts {
		h.SetRelay("")
	}
	s.run(time.Minute, true)
	if !s.direct() {
		t.Error("a narrow path is better than none")
	}
}

// TestPathBecomesNarrower is a black hole: small pings go on being answered.
func TestPathBecomesNarrower(t *testing.T) {
	carries := 1500
	s := sized(t, 1312, &carries)
	s.run(20*time.Second, true)
	carries = 1290
	s.run(sizeEvery+2*sizeLast, true)
	if !s.direct() || s.hosts[0].Size() != 1280 {
		t.Errorf("direct %v, size %d; want 1280 within the time of a check and a trial", s.direct(), s.hosts[0].Size())
	}
	carries = 1000
	s.run(sizeEvery+2*sizeLast, true)
	if !s.direct() || s.hosts[0].Size() != 768 {
		t.Errorf("direct %v, size %d; want 768", s.direct(), s.hosts[0].Size())
	}
	carries = MinSize - 1
	s.run(sizeEvery+2*sizeLast, true)
	if s.direct() {
		t.Error("still direct by a path that carries next to nothing")
	}
	carries = 1500
	s.run(time.Minute, true)
	if !s.direct() || s.hosts[0].Size() != 0 {
		t.Errorf("wide again: direct %v, size %d", s.direct(), s.hosts[0].Size())
	}
}

func TestMoreIsTriedOnceInAWhile(t *testing.T) {
	carries := 1290
	s := sized(t, 1312, &carries)
	s.run(10*time.Second, true)
	carries = 1500
	s.run(raiseEvery+time.Minute, true)
	if s.hosts[0].Size() != 0 {
		t.Errorf("size %d after %v on a path that carries all", s.hosts[0].Size(), raiseEvery)
	}
}

func TestKernelSaysTooBig(t *testing.T) {
	carries := 1500
	s := sized(t, 1312, &carries)
	s.run(10*time.Second, true)
	carries = 1285
	h := s.hosts[0]
	for range 100 { // each packet of a burst says so
		h.TooBig(s.now, h.out.Route.Direct)
	}
	h.due = s.now
	before := s.sent
	s.run(3*time.Second, true)
	if h.Size() != 1280 {
		t.Errorf("size %d, want 1280", h.Size())
	}
	if n := s.sent - before; n > 80 {
		t.Errorf("%d probes after one burst", n)
	}
}
