package natlab

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"
)

// ErrNotRecording is what WritePCAP answers without Config.Record.
var ErrNotRecording = errors.New("the lab records no packets")

// recorder keeps the latest packets. Records sit in two slabs: the newer one fills,
// and when it is full it replaces the older one, so that appending costs a copy and
// memory stays within the bound.
type recorder struct {
	limit      int // bytes per slab
	old, young slab
}

type slab struct {
	data    []byte
	records []record
}

type record struct {
	at   time.Time
	node string
	way  Way
	drop Drop
	end  int // of its packet in the slab
}

func newRecorder(limit int) *recorder { return &recorder{limit: max(limit/2, MaxPacket)} }

func (r *recorder) add(s Sight) {
	if len(r.young.data)+len(s.Packet) > r.limit {
		r.old, r.young = r.young, slab{data: r.old.data[:0], records: r.old.records[:0]}
	}
	r.young.data = append(r.young.data, s.Packet...)
	r.young.records = append(r.young.records, record{s.At, s.Node, s.Way, s.Drop, len(r.young.data)})
}

func (s slab) clone() slab { return slab{slices.Clone(s.data), slices.Clone(s.records)} }

// WritePCAP writes what was recorded as a pcapng file, each node an interface of its
// own. The comment of a packet that ended names the reason.
func (l *Lab) WritePCAP(w io.Writer) error {
	if l.recorder == nil {
		return ErrNotRecording
	}
	l.mu.Lock()
	slabs := [2]slab{l.recorder.old.clone(), l.recorder.young.clone()}
	l.mu.Unlock()
	var b []byte
	section := binary.LittleEndian.AppendUint32(nil, 0x1a2b3c4d) // byte order magic
	section = append(section, 1, 0, 0, 0)                        // version 1.0
	section = binary.LittleEndian.AppendUint64(section, ^uint64(0))
	b = appendBlock(b, 0x0a0d0d0a, section)
	nodes := map[string]uint32{}
	for _, s := range slabs {
		at := 0
		for _, r := range s.records {
			id, ok := nodes[r.node]
			if !ok {
				id = uint32(len(nodes))
				nodes[r.node] = id
				b = appendInterface(b, r.node)
			}
			b = appendPacket(b, id, r, s.data[at:r.end])
			at = r.end
		}
		if _, err := w.Write(b); err != nil {
			return fmt.Errorf("write pcap: %w", err)
		}
		b = b[:0]
	}
	return nil
}

// StopRecording forgets what was recorded, for a lab that is kept longer than it is of use.
func (l *Lab) StopRecording() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if r := l.recorder; r != nil {
		r.limit, r.old, r.young = 0, slab{}, slab{}
	}
	l.recorder, l.taps = nil, nil
}

// appendBlock appends one pcapng block (draft-ietf-opsawg-pcapng).
func appendBlock(b []byte, kind uint32, body []byte) []byte {
	n := uint32(12 + len(body))
	b = binary.LittleEndian.AppendUint32(b, kind)
	b = binary.LittleEndian.AppendUint32(b, n)
	b = append(b, body...)
	return binary.LittleEndian.AppendUint32(b, n)
}

func appendOption(b []byte, code uint16, value []byte) []byte {
	b = binary.LittleEndian.AppendUint16(b, code)
	b = binary.LittleEndian.AppendUint16(b, uint16(len(value)))
	return append(append(b, value...), make([]byte, -len(value)&3)...)
}

func appendInterface(b []byte, name string) []byte {
	body := []byte{101, 0, 0, 0, 0, 0, 0, 0}   // LINKTYPE_RAW: bare IP packets, any length
	body = appendOption(body, 2, []byte(name)) // if_name
	body = appendOption(body, 9, []byte{9})    // if_tsresol: nanoseconds
	return appendBlock(b, 1, append(body, 0, 0, 0, 0))
}

func appendPacket(b []byte, id uint32, r record, data []byte) []byte {
	ts := uint64(r.at.UnixNano())
	body := binary.LittleEndian.AppendUint32(nil, id)
	body = binary.LittleEndian.AppendUint32(body, uint32(ts>>32))
	body = binary.LittleEndian.AppendUint32(body, uint32(ts))
	body = binary.LittleEndian.AppendUint32(body, uint32(len(data)))
	body = binary.LittleEndian.AppendUint32(body, uint32(len(data)))
	body = append(append(body, data...), make([]byte, -len(data)&3)...)
	flags := uint32(2) // epb_flags: outbound
	if r.way == Inbound {
		flags = 1
	}
	body = appendOption(body, 2, binary.LittleEndian.AppendUint32(nil, flags))
	if r.drop != Passed {
		body = appendOption(body, 1, []byte("dropped: "+r.drop.String()))
	}
	return appendBlock(b, 6, append(body, 0, 0, 0, 0))
}
