/* Graceful takeover: docs/protocols/graceful_takeover.md. Two nodes, each with its identity; each may be ordered to take the
   other over, count down, cancel, force; each may depart, cancel, drain, store, leave; both orders may come at once.

   Bounds: ORDERS of each node, one cancellation by each, CRASHES of either at any step, CUTS that lose all messages on
   their way, HANGS of a draining engine, 3 client requests to the identity of node 0. Pauses need no bound, no process
   has to move; the countdown may end at any moment. 3 disks of each node, fenced one by one; a claim is one step, disk by
   disk it is in simultaneous.pml. Left out: warming, vetoes and refusals, which change nothing. */

/* check: -DCRASHES=2 -DWRITES=3 -DCUTS=1 */
/* check small: -DCRASHES=1 -DWRITES=1 -DCUTS=0 */
/* without GATE: `halted` is said before the lease has ended */
/* without AWAITING_LEASE: nor is it waited for when the countdown ends */
/* without COUNTDOWN -DCRASHES=0 -DWRITES=1 -DCANCELS=0: a hung drain is waited for, for ever */
/* without TIE_BREAK -DCRASHES=0 -DWRITES=1: both go on, and both go */
/* without DESERTION: a node departs for a partner that has died or given up */
/* without DROPPING -DCRASHES=0 -DWRITES=1: stored requests are executed on replay, and sent again by the client */
/* without STORED_FIRST -DCRASHES=0 -DWRITES=1: leaves with requests that it has neither completed nor stored */

#ifndef CRASHES
#define CRASHES 2
#endif
#ifndef ORDERS
#define ORDERS 1
#endif
#ifndef WRITES
#define WRITES 3
#endif
#ifndef CUTS
#define CUTS 1
#endif
#ifndef CANCELS
#define CANCELS 1
#endif
#ifndef HANGS
#define HANGS 1
#endif

mtype:inv = { I2_one_node_answers, P3_at_most_one_leaves, P5_who_gives_up_holds_nothing, P6_stored_once_or_not_at_all,
              P6_nothing_left_behind, I18_served_at_last };
#define must(name, condition) assert((condition) || !name)

/* Of the home node of an identity, and of the takeover of the partner's. */
mtype = { off, serving, departing, cancelling, leaving, halted,
          none, counting_down, calling_back, closing, fence_0, fence_1, fence_2, confirming, marking, awaiting_lease, serving_both };
#define OWN 0
#define ALONE 1
#define BACK 2
#define HELD(x, d) ((n[x].held >> (2 * (d))) & 3)
#define HOLD(x, d, who) n[x].held = (n[x].held & ~(3 << (2 * (d)))) | ((who) << (2 * (d)))
#define OWNS(x) (n[x].held == 0)
#define ANY_ALONE(x) (HELD(x, 0) == ALONE || HELD(x, 1) == ALONE || HELD(x, 2) == ALONE)
typedef Node {
  mtype home; mtype taking;
  bit lease; bit hung; byte held; bit taken; /* of its own identity; the last two are on disk, `held` by disk */
  bit known_stopped; byte attempt; byte follows; byte declined; byte orders; bit cancelled;
  bit called_off                             /* its operator has cancelled */
}
Node n[2];
byte crashes, cuts, hangs;

mtype:message = { please_shutdown, cancel, not_leaving, take_over };
chan to_0 = [3] of { mtype:message, byte };
chan to_1 = [3] of { mtype:message, byte };
#define SEND(what, number) if :: i == 0 && len(to_1) < 3 -> to_1!what(number) :: i == 1 && len(to_0) < 3 -> to_0!what(number) :: else fi
#define QUIET (i == 0 -> len(to_1) == 0 : len(to_0) == 0)

/* Requests to identity 0. */
#define UNSENT 0
#define RECEIVED 1
#define BEGUN 2
#define STORED 3
#define DONE 4
byte request[3];
byte executed_from_store; /* bits */
hidden byte k;
hidden byte number;
inline each_from_to(from, next) {
  k = 0;
  do :: k < WRITES -> if :: request[k] == from -> request[k] = next :: else fi; k++ :: else -> break od;
  k = 0
}
#define ANY(what) ((WRITES > 0 && request[0] == what) || (WRITES > 1 && request[1] == what) || (WRITES > 2 && request[2] == what))

#define J (1 - i)
#define GOES(x) (n[x].home == departing || n[x].home == cancelling || n[x].home == leaving || n[x].home == halted)
#define GONE(x) (n[x].home == halted || n[x].home == off)

/* The engine is gone: what it has not answered the client sends again. */
inline stop_engine() {
  if :: i == 0 -> each_from_to(RECEIVED, UNSENT); each_from_to(BEGUN, UNSENT) :: else fi
}
inline lose_messages() {
  do :: len(to_0) -> to_0?_,_ :: else -> break od;
  do :: len(to_1) -> to_1?_,_ :: else -> break od
}
inline end_boot() {
  stop_engine();
  lose_messages(); /* they name the boots of both ends */
  n[i].home = off; n[i].taking = none; n[i].lease = 0; n[i].hung = 0; n[i].known_stopped = 0; n[i].follows = 0;
  n[i].declined = 0; n[i].called_off = 0
}
inline give_up(next) {
  must(P5_who_gives_up_holds_nothing, !ANY_ALONE(J));
  n[i].taking = next; n[i].known_stopped = 0
}

#ifdef WITHOUT_TIE_BREAK
#define GOES_ON (n[i].taking == counting_down)
#else
#define GOES_ON (n[i].taking == counting_down && i == 0)
#endif

inline obey() { /* please shutdown, of attempt `number` */
  if
  :: n[i].home != serving || !OWNS(i)
  :: n[i].home == serving && OWNS(i) && n[i].declined == number -> SEND(not_leaving, number)
  :: n[i].home == serving && OWNS(i) && n[i].declined != number && n[i].taking == serving_both ->
       n[i].declined = number; SEND(not_leaving, number)
#ifdef WITHOUT_TIE_BREAK
  :: n[i].home == serving && OWNS(i) && n[i].declined != number &&
     (n[i].taking == none || n[i].taking == counting_down || n[i].taking == calling_back) -> n[i].home = departing; n[i].follows = number
#else
  :: n[i].home == serving && OWNS(i) && n[i].declined != number && n[i].taking == counting_down && i == 0
  :: n[i].home == serving && OWNS(i) && n[i].declined != number &&
     (n[i].taking == none || (n[i].taking == counting_down && i == 1)) ->
       if :: n[i].taking == counting_down -> SEND(cancel, n[i].attempt); give_up(none) :: else fi;
       n[i].home = departing; n[i].follows = number
#endif
  :: else
  fi
}

inline hear() {
  if
  :: what == please_shutdown -> obey()
  :: what == cancel ->
       if
       :: n[i].home == departing && n[i].follows == number -> n[i].home = cancelling
       :: n[i].home == serving -> n[i].declined = number; SEND(not_leaving, number)
       :: else
       fi
  :: what == not_leaving ->
       if
       :: (n[i].taking == counting_down || n[i].taking == calling_back) && n[i].attempt == number -> give_up(none)
       :: else
       fi
  :: what == take_over ->
       if :: (n[i].home == serving || GOES(i)) && n[i].home != halted -> end_boot() :: else fi
  fi;
  number = 0
}

proctype node(bit i) {
  mtype:message what;
end:
  do
  :: d_step { (i == 0 -> len(to_0) : len(to_1)) > 0 ->
       if :: i == 0 -> to_0?what,number :: i == 1 -> to_1?what,number fi;
       hear(); what = please_shutdown }

  /* ---- the partner decides, counts down ---- */
  :: d_step { n[i].home == serving && OWNS(i) && n[i].taking == none && !n[J].taken && n[i].orders < ORDERS ->
       n[i].orders++; n[i].attempt++; n[i].taking = counting_down }
  :: d_step { n[i].taking == counting_down && QUIET && !GOES(J) && n[J].home != off -> SEND(please_shutdown, n[i].attempt) }
  :: d_step { n[i].taking == counting_down && n[i].called_off < CANCELS -> n[i].called_off = 1; n[i].taking = calling_back }
  :: d_step { n[i].taking == calling_back && QUIET && !GONE(J) -> SEND(cancel, n[i].attempt) }
  :: d_step { n[i].taking == calling_back && len(to_0) + len(to_1) == 0 && !GOES(J) && !GONE(J) -> give_up(none) } /* its answer is lost */
  :: d_step { (n[i].taking == counting_down || n[i].taking == calling_back || (n[i].taking == none && n[i].home == serving)) &&
              GONE(J) && !n[J].taken ->
       n[i].known_stopped = 1; n[i].taking = closing }
#ifndef WITHOUT_COUNTDOWN
  :: d_step { n[i].taking == counting_down -> SEND(take_over, n[i].attempt); n[i].taking = closing }
#endif

  /* ---- takeover.md ---- */
  :: d_step { n[i].taking == closing -> n[i].taking = fence_0 }
  :: d_step { n[i].taking == fence_0 -> HOLD(J, 0, ALONE); n[i].taking = fence_1 }
  :: d_step { n[i].taking == fence_1 -> HOLD(J, 1, ALONE); n[i].taking = fence_2 }
  :: d_step { n[i].taking == fence_2 -> HOLD(J, 2, ALONE); n[i].taking = confirming }
  :: d_step { n[i].taking == confirming -> if :: HELD(i, 0) == OWN -> n[i].taking = marking :: else -> end_boot() fi }
  :: d_step { n[i].taking == marking -> n[J].taken = 1; n[i].taking = awaiting_lease }
#ifdef WITHOUT_AWAITING_LEASE
  :: d_step { n[i].taking == awaiting_lease ->
#else
  :: d_step { n[i].taking == awaiting_lease && (n[i].known_stopped || !n[J].lease) ->
#endif
       must(I2_one_node_answers, !n[J].lease);
       n[i].known_stopped = 0; n[i].taking = serving_both;
       if :: i == 1 ->
#ifdef WITHOUT_DROPPING
            k = 0;
            do :: k < WRITES -> if :: request[k] == STORED -> executed_from_store = executed_from_store | (1 << k) :: else fi; k++
               :: else -> break od;
#endif
            each_from_to(STORED, UNSENT) /* the client logs in anew, which ends its old tasks, and sends them again */
          :: else
       fi }

  /* ---- the node that goes ---- */
  :: d_step { n[i].home == departing && !n[i].hung && hangs < HANGS -> hangs++; n[i].hung = 1 }
#ifdef WITHOUT_STORED_FIRST
  :: d_step { (n[i].home == departing || n[i].home == cancelling) && !n[i].hung ->
#else
  :: d_step { (n[i].home == departing || n[i].home == cancelling) && !n[i].hung && (i == 1 || (!ANY(RECEIVED) && !ANY(BEGUN))) ->
#endif
       n[i].home = leaving; n[i].follows = 0 }
#ifdef WITHOUT_GATE
  :: d_step { n[i].home == leaving -> n[i].home = halted }
  :: d_step { n[i].home == halted && n[i].lease -> n[i].lease = 0 }
#else
  :: d_step { n[i].home == leaving ->
       n[i].lease = 0; n[i].home = halted;
       must(P6_nothing_left_behind, i == 1 || (!ANY(RECEIVED) && !ANY(BEGUN)));
       must(P3_at_most_one_leaves, n[J].home != halted) }
#endif
  :: d_step { n[i].home == halted && !n[i].lease -> end_boot() }
  :: d_step { n[i].home == departing && n[i].cancelled < CANCELS -> n[i].cancelled = 1; n[i].home = cancelling } /* its operator */
#ifndef WITHOUT_DESERTION
  :: d_step { n[i].home == departing && n[J].taking != counting_down -> n[i].home = cancelling } /* no `please_shutdown` any more */
#endif
  :: d_step { n[i].home == cancelling && !n[i].hung -> /* the engine goes on; sessions have ended, their tasks are dropped */
       if :: i == 0 -> each_from_to(STORED, UNSENT); each_from_to(RECEIVED, UNSENT) :: else fi;
       n[i].home = serving; n[i].declined = n[i].follows; SEND(not_leaving, n[i].follows); n[i].follows = 0 }
  :: d_step { n[i].home == cancelling && n[i].hung -> end_boot() } /* an engine that does not answer is restarted */

  /* ---- boot; fenced ---- */
  :: d_step { n[i].home == off && ANY_ALONE(J) && !n[J].taken -> /* leftovers */
       k = 0;
       do :: k < 3 -> if :: HELD(J, k) == ALONE -> HOLD(J, k, BACK) :: else fi; k++ :: else -> break od;
       k = 0 }
  :: d_step { n[i].home == off && !ANY_ALONE(i) && !n[i].taken && !(ANY_ALONE(J) && !n[J].taken) ->
       n[i].held = 0; n[i].lease = 1; n[i].home = serving;
       n[J].known_stopped = 0; /* a newer epoch in the mailbox tells (takeover_mirror.pml, FRESH_STOP) */
       if :: i == 0 -> each_from_to(STORED, UNSENT) :: else fi }
  :: d_step { n[i].home == serving && n[i].taking == none && n[J].taken && OWNS(i) -> n[i].taking = closing } /* resume */
  :: d_step { n[i].home != off && !OWNS(i) && n[i].home != halted -> end_boot() }
  :: d_step { n[i].home != off && crashes < CRASHES -> crashes++; end_boot() }
  od
}

active proctype clients() {
end:
  do
  :: d_step { n[0].home == serving && n[0].lease && ANY(UNSENT) ->
       k = (request[0] == UNSENT -> 0 : (request[1] == UNSENT -> 1 : 2)); request[k] = RECEIVED; k = 0 }
  :: d_step { (n[0].home == serving) && ANY(RECEIVED) ->
       k = (request[0] == RECEIVED -> 0 : (request[1] == RECEIVED -> 1 : 2));
       must(P6_stored_once_or_not_at_all, !(executed_from_store & (1 << k)));
       request[k] = BEGUN; k = 0 }
  :: d_step { (n[0].home == departing || n[0].home == cancelling) && !n[0].hung && ANY(RECEIVED) ->
       each_from_to(RECEIVED, STORED) }
  :: d_step { (n[0].home == serving || ((n[0].home == departing || n[0].home == cancelling) && !n[0].hung)) && ANY(BEGUN) &&
              n[0].lease && (n[1].taking == none || n[1].taking == counting_down || n[1].taking == calling_back) ->
       k = (request[0] == BEGUN -> 0 : (request[1] == BEGUN -> 1 : 2));
       must(I2_one_node_answers, n[1].taking != serving_both);
       request[k] = DONE; k = 0 }
  :: d_step { n[1].taking == serving_both && n[1].home == serving && ANY(UNSENT) ->
       k = (request[0] == UNSENT -> 0 : (request[1] == UNSENT -> 1 : 2));
       must(P6_stored_once_or_not_at_all, !(executed_from_store & (1 << k)));
       request[k] = DONE; k = 0 }
  od
}

#define SERVED(i) ((n[i].home == serving && OWNS(i) && n[i].lease) || n[1 - i].taking == serving_both)
active proctype world() {
  do
  :: d_step { n[0].lease && n[1].taking == awaiting_lease -> n[0].lease = 0 } /* time passes; it matters here only */
  :: d_step { n[1].lease && n[0].taking == awaiting_lease -> n[1].lease = 0 }
  :: atomic { cuts < CUTS && len(to_0) + len(to_1) -> cuts++;
       lose_messages() }
  :: atomic { timeout -> must(I18_served_at_last, SERVED(0) && SERVED(1)); break }
  od
}

init { d_step {
  n[0].home = serving; n[1].home = serving; n[0].taking = none; n[1].taking = none; n[0].lease = 1; n[1].lease = 1 };
  atomic { run node(0); run node(1) } }
