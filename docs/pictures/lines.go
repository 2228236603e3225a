package main

import (
	"errors"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
)

// lease is what the time line of a lease is drawn from, in seconds.
type lease struct {
	length, margin, heartbeat float64
	cutOff                    float64   // when the holder loses its network
	looks                     []float64 // when the waiter reads the item
}

// defaults are those of the library: a margin and a heartbeat of a fifth of the lease.
var defaults = lease{
	length: 10, margin: 2, heartbeat: 2, cutOff: 5.2,
	looks: []float64{0.6, 1.5, 2.7, 3.4, 4.6, 5.5, 6.4, 7.2, 8.1, 9, 9.8, 10.7, 11.6, 12.4, 13.3, 14},
}

// The heights of the lanes of both time lines.
const (
	left                     = 92.0
	holderLane, itemLane     = 110.0, 206.0
	waiterLane, lanesEnd     = 292.0, 340.0
	lineHeight, itemBoxLower = 366, 224.0
)

func lanes(s *scene, names ...string) {
	for i, y := range []float64{holderLane, itemLane, waiterLane} {
		s.text(16, y+5, "start", "strong", names[i])
	}
}

// leaseLine shows a lease from its acquire to the take-over.
func leaseLine(l lease) *scene {
	s := &scene{
		height: lineHeight,
		name: "A holder renews its lease of 10 s until it is cut off from the network. 8 s after its last " +
			"acknowledged heartbeat was sent it stops. A waiter that has seen the version stand still for 10 s takes over.",
	}
	x := func(t float64) float64 { return left + t*45.5 }
	last := l.cutOff - mod(l.cutOff, l.heartbeat)
	stop := last + l.length - l.margin
	var seen float64
	for _, t := range l.looks {
		if t > last {
			seen = t
			break
		}
	}
	taken := seen + l.length
	end := taken + 1.2

	s.text(16, 30, "start", "title", "A lease of 10 s, and what its holder and a waiter believe")
	s.box(x(stop), 66, x(taken), lanesEnd, "warn", "")
	s.text((x(stop)+x(taken))/2, 60, "middle", "small soft", "nobody trusts it")
	lanes(s, "holder", "item", "waiter")

	s.box(x(0), holderLane-14, x(stop), holderLane+14, "fill", "good")
	s.text(x(0), holderLane-24, "start", "small", "acquires")
	s.text((x(l.cutOff)+x(stop))/2+8, holderLane+5, "middle", "small good", "Held() is true until its deadline")
	s.text(x(stop)+8, holderLane-4, "start", "small bad", "Held() is false,")
	s.text(x(stop)+8, holderLane+13, "start", "small bad", "Done closes")
	version := 1
	for t := 0.0; t <= last; t += l.heartbeat {
		s.arrow(x(t), holderLane+5, itemLane-19, "good")
		s.dot(x(t), holderLane, "good")
		to := t + l.heartbeat
		if t == last {
			to = taken
		}
		s.box(x(t), itemLane-18, x(to), itemBoxLower, "ground", "soft")
		s.text((x(t)+x(to))/2, itemLane+5, "middle", "small", fmt.Sprint("version ", version))
		if t > 0 {
			s.text(x(t), holderLane-24, "middle", "small", "heartbeat")
		}
		version++
	}
	s.cross(x(l.cutOff), holderLane)
	s.text(x(l.cutOff)+4, holderLane-24, "start", "small bad", "cut off from the network")
	s.span(x(last), x(stop), holderLane+34, "small", "lease − margin: 8 s after that heartbeat was sent")

	s.box(x(taken), itemLane-18, x(end), itemBoxLower, "otherfill", "other")
	s.text((x(taken)+x(end))/2, itemLane-1, "middle", "small", "token")
	s.text((x(taken)+x(end))/2, itemLane+14, "middle", "small", "+ 1")
	s.line(x(0), waiterLane, x(taken), waiterLane, "line", "")
	for _, t := range l.looks {
		s.circle(x(t), waiterLane, "other")
	}
	s.text(x(0), waiterLane-16, "start", "small soft", "polls: reads, at random times")
	s.arrow(x(taken), waiterLane-5, itemBoxLower+1, "other")
	s.dot(x(taken), waiterLane, "other")
	s.text(x(taken)-10, waiterLane-16, "end", "small other", "takes over")
	s.span(x(seen), x(taken), waiterLane+24, "small", "the whole lease: 10 s from the first answer that showed version 3")
	return s
}

func mod(a, b float64) float64 { return a - b*float64(int(a/b)) }

// story is what the quickstart tells of a holder that is cut off.
type story struct {
	holder, waiter                          string
	acquired, cutOff, stopped, taken, write float64 // seconds
	late                                    float64
	oldToken, newToken                      string
	silence                                 string // from the last heartbeat to the take-over
}

var told = regexp.MustCompile(`(?m)^ +(\d+\.\d\d) s  (\w+) +(.*)$`)

// readStory reads what the quickstart has printed.
func readStory(file string) (story, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return story{}, err
	}
	var s story
	has := map[string][2]string{} // who had the lock last: when, with which token
	for _, m := range told.FindAllStringSubmatch(string(text), -1) {
		at, who, what := m[1], m[2], m[3]
		when, err := strconv.ParseFloat(at, 64)
		if err != nil {
			return s, err
		}
		switch token := regexp.MustCompile(`token (\d+)`).FindStringSubmatch(what); {
		case strings.HasPrefix(what, "HAS THE LOCK") && s.holder == "":
			has[who] = [2]string{at, token[1]}
		case strings.HasPrefix(what, "... silence"):
			s.holder, s.cutOff, s.oldToken = who, when, has[who][1]
			if s.acquired, err = strconv.ParseFloat(has[who][0], 64); err != nil {
				return s, err
			}
		case strings.HasPrefix(what, "Held() is false and Done closed"):
			s.stopped = when
		case strings.HasPrefix(what, "TAKES OVER"):
			s.waiter, s.taken, s.newToken = who, when, token[1]
			s.silence = regexp.MustCompile(`[\d.]+ s after`).FindString(what)
		case strings.HasPrefix(what, "stores its result") && who == s.waiter && s.write == 0:
			s.write = when
		case strings.Contains(what, "REFUSED by DynamoDB") && who == s.holder:
			s.late = when
		}
	}
	if s.acquired == 0 || s.stopped == 0 || s.taken == 0 || s.write == 0 || s.late == 0 || s.silence == "" {
		return s, errors.New(file + " does not tell of a holder that was cut off and came back")
	}
	return s, nil
}

// staleLine shows a holder that is cut off, and comes back when its lock has been taken over.
func staleLine(r story) *scene {
	s := &scene{
		height: lineHeight,
		name: fmt.Sprintf("%s is cut off while it holds the lock, and stops after %.2f s. %s takes over at %.2f s. "+
			"The write that %[1]s sends at %.2[5]f s is rejected by DynamoDB.", r.holder, r.stopped, r.waiter, r.taken, r.late),
	}
	begin := r.acquired - 0.05
	x := func(t float64) float64 { return left + (t-begin)*143 }
	end := r.late + 0.38

	s.text(16, 30, "start", "title",
		"A write that comes too late is rejected: one run of the quickstart, with a lease of 4 s")
	lanes(s, r.holder, "item", r.waiter)
	s.box(x(r.acquired), holderLane-14, x(r.stopped), holderLane+14, "fill", "good")
	s.text(x(r.acquired), holderLane-24, "start", "small", at(r.acquired, "acquires"))
	s.text((x(r.cutOff)+x(r.stopped))/2, holderLane+5, "middle", "small good", "Held() is true")
	s.text(x(r.stopped)+8, holderLane-4, "start", "small bad", at(r.stopped, "Held() is false,"))
	s.text(x(r.stopped)+8, holderLane+13, "start", "small bad", "Done closes")

	s.box(x(r.acquired), itemLane-18, x(r.taken), itemBoxLower, "ground", "soft")
	s.text((x(r.acquired)+x(r.taken))/2, itemLane+5, "middle", "small", r.holder+"'s tenure, token "+r.oldToken)
	s.box(x(r.taken), itemLane-18, x(end), itemBoxLower, "otherfill", "other")
	s.text((x(r.taken)+x(end))/2, itemLane+5, "middle", "small", r.waiter+"'s tenure")

	s.arrow(x(r.acquired), holderLane+5, itemLane-19, "good")
	s.dot(x(r.acquired), holderLane, "good")
	s.arrow(x(r.cutOff), holderLane+5, itemLane-19, "good")
	s.dot(x(r.cutOff), holderLane, "good")
	s.text(x(r.cutOff)+8, holderLane+34, "start", "small", at(r.cutOff, "stores its result, guarded by the lock;"))
	s.text(x(r.cutOff)+8, holderLane+52, "start", "small bad", "then it is cut off from the network")

	s.line(x(r.late), holderLane+5, x(r.late), itemLane-27, "bad", "4 3")
	s.dot(x(r.late), holderLane, "bad")
	s.cross(x(r.late), itemLane-26)
	s.text(x(r.late)-10, holderLane+38, "end", "small bad", at(r.late, "its late write is"))
	s.text(x(r.late)-10, holderLane+55, "end", "small bad strong", "rejected by DynamoDB")

	s.line(x(r.acquired), waiterLane, x(r.taken), waiterLane, "line", "")
	for t := r.acquired + 0.2; t < r.taken-0.2; t += 0.45 {
		s.circle(x(t), waiterLane, "other")
	}
	s.text(x(r.acquired), waiterLane-16, "start", "small soft", "polls (when, is only sketched)")
	s.box(x(r.taken), waiterLane-14, x(end), waiterLane+14, "otherfill", "other")
	s.arrow(x(r.taken), waiterLane-5, itemBoxLower+1, "other")
	s.dot(x(r.taken), waiterLane, "other")
	s.text(x(r.taken)-10, waiterLane-16, "end", "small other", at(r.taken, "takes over, token "+r.newToken))
	s.text(x(r.taken)-10, waiterLane-33, "end", "small soft", r.silence+" "+r.holder+"'s last heartbeat")
	s.arrow(x(r.write), waiterLane-5, itemBoxLower+1, "other")
	s.dot(x(r.write), waiterLane, "other")
	s.text(x(end), waiterLane+32, "end", "small other", at(r.write, "its guarded write is applied"))
	return s
}

func at(t float64, what string) string { return fmt.Sprintf("%.2f s: %s", t, what) }
