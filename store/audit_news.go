package store

import "sync"

// news tells those who follow the trail that it has grown.
type news struct {
	mu sync.Mutex // guards c
	c  chan struct{}
}

// AuditNews returns a channel that is closed when records have been added after the call.
// Whoever follows asks for it before reading, so that nothing passes in between.
func (s *Store) AuditNews() <-chan struct{} {
	s.news.mu.Lock()
	defer s.news.mu.Unlock()
	if s.news.c == nil {
		s.news.c = make(chan struct{})
	}
	return s.news.c
}

func (n *news) tell() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.c != nil {
		close(n.c)
		n.c = nil
	}
}
