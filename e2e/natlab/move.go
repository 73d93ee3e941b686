package natlab

// Disconnect cuts the host's link. Sockets stay and notice nothing but silence.
func (h *Host) Disconnect() { h.lab.setDown(h.port, true) }

// Reconnect ends Disconnect.
func (h *Host) Reconnect() { h.lab.setDown(h.port, false) }

// SetLink changes the host's link: what it sends and what it receives.
func (h *Host) SetLink(upward, downward LinkConfig) error {
	if err := h.lab.setLink(h.port, upward, downward); err != nil {
		return err
	}
	h.lab.mu.Lock()
	tcp := h.tcp
	h.lab.mu.Unlock()
	if tcp != nil {
		tcp.link.SetMTU(uint32(upward.withDefaults().MTU))
	}
	return nil
}

// MoveTo takes the host to another network, as a laptop that roams: it gets new
// addresses there and the old ones are gone. UDP sockets bound to no address go on
// from the new one; those bound to an old address stay deaf. TCP connections die by
// timeout, as on a real machine. Watchers are told.
func (h *Host) MoveTo(network *Network) {
	l := h.lab
	l.mu.Lock()
	if h.port.net != nil {
		h.port.net.detach(h.port)
	}
	network.attach(h.port, h.opts.addrs, h.opts.v6 || network.gateway != nil)
	clear(h.pmtu)
	if h.fw != nil {
		h.fw.reset()
	}
	tcp := h.tcp
	l.mu.Unlock()
	if tcp != nil {
		tcp.syncAddrs()
	}
	h.notify()
}

// OnChange calls f after each change of the host's addresses, in the goroutine that
// made the change. stop ends that.
func (h *Host) OnChange(f func()) (stop func()) {
	h.lab.mu.Lock()
	defer h.lab.mu.Unlock()
	id := h.nextWatch
	h.nextWatch++
	h.watchers[id] = f
	return func() {
		h.lab.mu.Lock()
		defer h.lab.mu.Unlock()
		delete(h.watchers, id)
	}
}

func (h *Host) notify() {
	h.lab.mu.Lock()
	fs := make([]func(), 0, len(h.watchers))
	for _, f := range h.watchers {
		fs = append(fs, f)
	}
	h.lab.mu.Unlock()
	for _, f := range fs {
		f()
	}
}

// Suspend closes the lid: packets to and from the host are lost, and reads and
// writes on its UDP sockets wait for Resume, whatever their deadlines. Timers of the
// programs on it go on, since their clock is not the lab's.
func (h *Host) Suspend() { h.sleep(true) }

// Resume ends Suspend.
func (h *Host) Resume() { h.sleep(false) }

func (h *Host) sleep(asleep bool) {
	h.lab.mu.Lock()
	defer h.lab.mu.Unlock()
	h.suspended = asleep
	h.wakeUp.Broadcast()
	for _, c := range h.udp {
		c.queue.freeze(asleep)
	}
}
