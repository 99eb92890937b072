package xds

import (
	"container/list"
	"sync"

	"google.golang.org/protobuf/proto"

	"github.com/fairlead-mesh/fairlead/internal/envoy"
)

const (
	// wide is of how many services the translation of a view is remembered, and
	// mostRemembered how many services are remembered in all feeds together: the messages
	// of one take about 10 KB.
	wide           = 100
	mostRemembered = 20_000
)

// memory is what a feed remembers of its last translation.
type memory struct {
	memo envoy.Memo
	// messages are those that the feed's resources were encoded of.
	messages map[named]proto.Message
}

// learn notes what a feed's resources were made of.
func (m *memory) learn(resources []envoy.Resource) {
	m.messages = make(map[named]proto.Message, len(resources))
	for _, r := range resources {
		m.messages[named{r.Type, r.Name}] = r.Message
	}
}

// unlearn notes that resources were made of something else since.
func (m *memory) unlearn(resources []envoy.Resource) {
	for _, r := range resources {
		delete(m.messages, named{r.Type, r.Name})
	}
}

// memories gives the feeds that were translated last room for their memories.
type memories struct {
	mu       sync.Mutex
	feeds    list.List // of remembered, what was translated last first
	places   map[*feed]*list.Element
	services int // that are remembered
}

// remembered is a feed that has a memory.
type remembered struct {
	feed     *feed
	services int
}

func newMemories() *memories { return &memories{places: map[*feed]*list.Element{}} }

// keep gives a feed a memory of a number of services, and takes that of others as the room
// ends.
func (m *memories) keep(f *feed, mem *memory, services int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.drop(f)
	f.memory.Store(mem)
	m.places[f] = m.feeds.PushFront(remembered{f, services})
	m.services += services
	for m.services > mostRemembered && m.feeds.Len() > 1 {
		m.drop(m.feeds.Back().Value.(remembered).feed)
	}
}

// forget takes a feed's memory.
func (m *memories) forget(f *feed) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.drop(f)
}

func (m *memories) drop(f *feed) {
	place, ok := m.places[f]
	if !ok {
		return
	}
	m.services -= m.feeds.Remove(place).(remembered).services
	delete(m.places, f)
	f.memory.Store(nil)
}
