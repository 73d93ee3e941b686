package agent

import (
	"net"
	"sync"
)

// merged accepts from several listeners.
type merged struct {
	all    []net.Listener
	conns  chan accepted // unbuffered: who accepts takes it, or it is closed
	done   chan struct{}
	closed sync.Once
	wg     sync.WaitGroup
}

type accepted struct {
	c   net.Conn
	err error
}

func merge(all []net.Listener) net.Listener {
	m := &merged{all: all, conns: make(chan accepted), done: make(chan struct{})}
	for _, l := range all {
		m.wg.Go(func() { m.pump(l) })
	}
	return m
}

func (m *merged) pump(l net.Listener) {
	for {
		c, err := l.Accept()
		select {
		case m.conns <- accepted{c, err}:
		case <-m.done:
			if err == nil {
				c.Close()
			}
			return
		}
		if err != nil {
			return
		}
	}
}

// Accept returns the next connection of any of them.
func (m *merged) Accept() (net.Conn, error) {
	select {
	case a := <-m.conns:
		return a.c, a.err
	case <-m.done:
		return nil, net.ErrClosed
	}
}

// Close closes them all and waits for the acceptors.
func (m *merged) Close() error {
	m.closed.Do(func() {
		close(m.done)
		for _, l := range m.all {
			l.Close()
		}
		m.wg.Wait()
	})
	return nil
}

// Addr is the first one's.
func (m *merged) Addr() net.Addr { return m.all[0].Addr() }
