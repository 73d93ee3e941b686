package frame

import (
	"bytes"
	"io"
	"testing"
	"testing/iotest"
)

// FuzzReader reads a stream whole and byte by byte: both must see the same frames,
// and every body that parses must mean the same after it was written again.
func FuzzReader(f *testing.F) {
	f.Add(every())
	f.Add(every()[:20])
	f.Add([]byte{byte(Send), 0xff, 0xff})
	f.Add(AppendRefused(nil, NoPeer, BadTicket))
	f.Add(append([]byte{byte(Opened), 0, 9}, "bob00\xffxyz"...))
	f.Fuzz(func(t *testing.T, in []byte) {
		whole, slow := NewReader(bytes.NewReader(in)), NewReader(iotest.OneByteReader(bytes.NewReader(in)))
		for {
			t1, b1, e1 := whole.Next()
			t2, b2, e2 := slow.Next()
			if t1 != t2 || !bytes.Equal(b1, b2) || (e1 == nil) != (e2 == nil) {
				t.Fatalf("whole %v %x %v, slow %v %x %v", t1, b1, e1, t2, b2, e2)
			}
			if e1 != nil {
				if e1 == io.EOF && whole.Buffered() != 0 {
					t.Fatal("EOF with bytes left")
				}
				return
			}
			once, err := reappend(nil, t1, b1)
			if err != nil {
				continue
			}
			t3, b3, err := NewReader(bytes.NewReader(once)).Next()
			if err != nil || t3 != t1 {
				t.Fatalf("%v written as %x does not read: %v", t1, once, err)
			}
			twice, err := reappend(nil, t3, b3)
			if err != nil || !bytes.Equal(once, twice) {
				t.Fatalf("%v: %x then %x, %v", t1, once, twice, err)
			}
		}
	})
}
