/* Giveback: docs/protocols/giveback.md, boot.md, formats/mailbox.md. B serves the identity of A; the repaired A boots,
   shows GIVEWAIT and MBWAIT, gets it back, claims and serves; B retakes what A does not take. Both may die at every
   step: A may stay dead, B always returns and finds what its earlier boot has left.

   Bounds: 3 disks with two copies of the mailbox each; CRASHES of either node; PAUSES of A, that is how a corpse looks whose
   network card is still alive; RETURNS givebacks. Client writes need no bound: all that matters of them is whether B's log
   has one that the pool has not. Nor do cuts: what B knows of A is `view`, as old as it likes to be, and a cut is a view that
   gets old. Deadlines may pass at any moment.
   Left out: the mirror and late data writes (takeover_mirror.pml): the identity comes back write-through. */

/* check: -DCRASHES=2 -DPAUSES=1 -DRETURNS=2 */
/* check small: -DCRASHES=2 -DPAUSES=0 -DRETURNS=1 */
/* without DRAINING: what only B's log has is not given back */
/* without RELEASING_FIRST: B serves while the mailbox says free */
/* without PROGRESS: given back to a corpse */
/* without RETAKE: A dies before it serves, and B does not listen */
/* without READING_FIRST: A claims what it can reach, before it has read whose it is */
/* without STAND_DOWN: A claims over Exclusive Access */
/* without REREADING: A's claim rests on what it read before */
/* without REREADING_FENCED: B's mark rests on what it read before the fence */
/* without ABORT: the rest of B's write lands on A's */
/* without AWAITING_LEASE: B retakes while A answers */
/* without MARK_BEFORE_SERVING: B retakes and dies, and nobody knows */
/* without SHARED_RESERVATION: releasing leaves disks to anybody */

#ifndef CRASHES
#define CRASHES 2
#endif
#ifndef PAUSES
#define PAUSES 1
#endif
#ifndef RETURNS
#define RETURNS 2
#endif

mtype:inv = { I1_no_acknowledged_write_lost, I2_one_node_answers, I5_epochs_never_decrease, I7_no_serving_of_a_taken_one,
              I12_always_reserved, B1_reads_before_it_claims, I17_nothing_to_a_corpse, I18_served_at_last };
#define must(name, condition) assert((condition) || !name)

/* Reservations: B's Exclusive Access, B's Write Exclusive, A's Write Exclusive. */
#define ALONE 0
#define SHARED 1
#define OF_A 2
#define NOBODY 3
byte held;
#define HELD(d) ((held >> (2 * (d))) & 3)
#define HOLD(d, who) held = (held & ~(3 << (2 * (d)))) | ((who) << (2 * (d)))
#define ANY_ALONE (HELD(0) == ALONE || HELD(1) == ALONE || HELD(2) == ALONE)
#define ALL(who) (HELD(0) == who && HELD(1) == who && HELD(2) == who)
#define OF_B(d) (HELD(d) == ALONE || HELD(d) == SHARED)

/* A mailbox block: generation and epoch, taken over by B. Copy 0 of the three disks, then copy 1. */
#define BOX(gen, epoch, taken) ((gen) | ((epoch) << 4) | ((taken) << 7))
#define GEN(x) ((x) & 15)
#define EPOCH(x) (((x) >> 4) & 7)
#define TAKEN(x) (((x) >> 7) & 1)
byte box[6] = BOX(1, 1, 1);
hidden byte best, k, by;
inline read_box() {
  k = 1; best = box[0];
  do :: k < 6 -> if :: GEN(box[k]) > GEN(best) -> best = box[k] :: else fi; k++ :: else -> break od;
  k = 0
}

/* A write of a mailbox on its way: which disks have not yet the present copy; it outlives its writer. */
typedef Write { byte open; bit copy; byte what; bit lost };
Write of_a, of_b;
inline begin(w, gen, epoch, taken) {
  assert(gen < 15 && epoch < 8); /* or the fields of this model are too small */
  w.open = 7; w.copy = 0; w.what = BOX(gen + 1, epoch, taken); w.lost = 0
}
inline forget(w) { w.open = 0; w.copy = 0; w.what = 0; w.lost = 0 }
inline abort(w, d) { if :: w.open & (1 << (d)) -> w.open = w.open & ~(1 << (d)); w.lost = 1 :: else fi }
inline land(w, d) {
  if :: w.open & (1 << (d)) ->
       must(I5_epochs_never_decrease, GEN(w.what) >= GEN(box[3 * w.copy + (d)]) && EPOCH(w.what) >= EPOCH(box[3 * w.copy + (d)]));
       box[3 * w.copy + (d)] = w.what; w.open = w.open & ~(1 << (d))
     :: else
  fi
}

bit in_log; /* an acknowledged write is in B's log, and not in the pool */

mtype = { dead, off, booting, reading, claim_0, claim_1, claim_2, claim_again, rereading, marking, up,
          serving, releasing_0, releasing_1, releasing_2, released, reserving_0, reserving_1, reserving_2, stopping,
          giving, awaiting_up, idle, fence_0, fence_1, fence_2, fence_again, confirming, awaiting_lease,
          leftovers, back_0, back_1, back_2 };
mtype a = booting;
#define BOOTING 0
#define GIVEWAIT 1
#define MBWAIT 2
#define UP 3
byte shown;
bit shared_all; /* the survey of A */
byte seen;      /* the mailbox when A decided to claim */
bit lease_a;
bit paused;
byte pauses;

mtype b = serving;
byte view;            /* what B has read of A last */
bit rebooted;         /* A, since then */
bit stale;            /* that has not changed for too long */
bit moved;            /* A has booted since B began to give */
byte confirmed;
byte crashes, returns;
#define B_ANSWERS (b == serving || b == releasing_0 || b == releasing_1 || b == releasing_2 || b == released || \
                   b == reserving_0 || b == reserving_1 || b == reserving_2)

inline end_a(next) { a = next; shown = BOOTING; lease_a = 0; shared_all = 0; seen = 0; if :: of_a.open == 0 -> forget(of_a) :: else fi }
inline end_b() {
  b = off; view = BOOTING; rebooted = 0; stale = 0; moved = 0; confirmed = 0;
  if :: of_b.open == 0 -> forget(of_b) :: else fi
}

/* Generations and epochs matter only while they differ: once all copies are alike, they begin with 1 again. What somebody still
   remembers of older epochs stays older. */
#define OLDER(x) (EPOCH(x) > by -> (x) - (by << 4) : (x) & ~(7 << 4))
inline count_anew() {
  by = EPOCH(box[0]) - 1;
  do :: k < 6 -> box[k] = (OLDER(box[k]) & ~15) | 1; k++ :: else -> break od;
  seen = OLDER(seen); confirmed = OLDER(confirmed); of_a.what = OLDER(of_a.what); of_b.what = OLDER(of_b.what);
  k = 0; by = 0
}

active proctype repaired() {
end:
  do
  :: d_step { a == off && !paused -> rebooted = 1; a = booting }
  /* Probe, read only. */
  :: d_step { a == booting && !paused && ANY_ALONE && shown != GIVEWAIT -> shown = GIVEWAIT }
  :: d_step { a == booting && !paused && !ANY_ALONE -> shared_all = ALL(SHARED); a = reading }
  :: d_step { a == reading && !paused && ANY_ALONE -> shown = GIVEWAIT; shared_all = 0; a = booting }
#ifdef WITHOUT_READING_FIRST
  :: d_step { a == reading && !paused && !ANY_ALONE -> read_box(); seen = best; shown = BOOTING; a = claim_0 }
#else
  :: d_step { a == reading && !paused && !ANY_ALONE ->
       read_box();
       if :: TAKEN(best) -> shown = (shared_all -> MBWAIT : GIVEWAIT); a = booting
          :: else -> seen = best; shown = BOOTING; a = claim_0
       fi;
       shared_all = 0 }
#endif
#ifdef WITHOUT_STAND_DOWN
#define KEPT_OUT(d) 0
#else
#define KEPT_OUT(d) (HELD(d) == ALONE)
#endif
  :: d_step { (a == claim_0 || a == claim_1 || a == claim_2) && !paused ->
       k = (a == claim_0 -> 0 : (a == claim_1 -> 1 : 2));
       if
       :: KEPT_OUT(k) -> end_a(booting)
       :: else ->
            must(B1_reads_before_it_claims, !TAKEN(seen));
            HOLD(k, OF_A);
#ifndef WITHOUT_ABORT
            abort(of_b, k); abort(of_a, k); of_a.lost = 0;
#endif
            a = (a == claim_0 -> claim_1 : (a == claim_1 -> claim_2 : claim_again))
       fi;
       k = 0 }
#ifdef WITHOUT_REREADING
#define STILL_FREE 1
#else
#define STILL_FREE (!TAKEN(best) && EPOCH(best) == EPOCH(seen))
#endif
  :: d_step { a == claim_again && !paused -> if :: HELD(0) == OF_A -> a = rereading :: else -> end_a(booting) fi }
  :: d_step { a == rereading && !paused ->
       read_box();
       if
       :: ALL(OF_A) && STILL_FREE -> begin(of_a, GEN(best), EPOCH(seen) + 1, 0); seen = 0; a = marking
       :: else -> end_a(booting)
       fi }
  :: d_step { a == marking && !paused && of_a.open == 0 ->
       if
       :: of_a.lost || !ALL(OF_A) -> end_a(booting); forget(of_a)
       :: else ->
            if :: of_a.copy == 0 -> of_a.copy = 1; of_a.open = 7
               :: else -> /* and the first heartbeat, which fails if B has fenced us */
                    must(I2_one_node_answers, !B_ANSWERS);
                    must(I7_no_serving_of_a_taken_one, !TAKEN(of_a.what));
                    must(I1_no_acknowledged_write_lost, !in_log);
                    forget(of_a); count_anew(); lease_a = 1; shown = UP; a = up
            fi
       fi }
  /* A write that A acknowledges is in the pool; that changes nothing, and must not be while B answers. */
  :: d_step { a == up && !paused && lease_a && ALL(OF_A) && B_ANSWERS -> must(I2_one_node_answers, false) } /* never reached */
  :: d_step { (a == up || a == marking) && !paused && !ALL(OF_A) -> end_a(off) } /* fenced */
  :: d_step { a != off && a != dead && crashes < CRASHES -> crashes++; paused = 0; end_a(off) }
  :: d_step { a != off && a != dead && crashes < CRASHES -> crashes++; paused = 0; end_a(dead) }
  od
}

inline fence(d, next) {
  d_step { HOLD(d, ALONE); abort(of_a, d); abort(of_b, d); b = next }
}

#ifdef WITHOUT_REREADING_FENCED
#define TAKE read_box(); confirmed = best; b = fence_0
#else
#define TAKE b = fence_0
#endif

active proctype survivor() {
end:
  do
  /* ---- what B knows of A ---- */
  :: d_step { b != off && a != off && a != dead && b != fence_1 && b != fence_2 && b != fence_again && b != confirming &&
       b != marking && b != awaiting_lease && (view != shown || rebooted || (stale && !paused)) ->
       view = shown; moved = moved | rebooted; rebooted = 0; stale = 0 }
  :: d_step { b != off && !stale && (paused || a == off || a == dead) -> stale = 1 }
#define WAITS ((view == GIVEWAIT || view == MBWAIT) && !stale)

  /* ---- serving the identity of A ---- */
  :: d_step { B_ANSWERS && (!in_log || lease_a) -> must(I2_one_node_answers, !lease_a); in_log = 1 }

  /* ---- giveback ---- */
  :: d_step { b == serving && WAITS && returns < RETURNS -> moved = 0; b = releasing_0 }
#ifdef WITHOUT_SHARED_RESERVATION
#define LET_IN(d) HOLD(d, NOBODY); must(I12_always_reserved, HELD(d) != NOBODY)
#else
#define LET_IN(d) HOLD(d, SHARED)
#endif
  :: d_step { b == releasing_0 -> LET_IN(0); b = releasing_1 }
  :: d_step { b == releasing_1 -> LET_IN(1); b = releasing_2 }
  :: d_step { b == releasing_2 -> LET_IN(2); b = released }
  :: d_step { b == released && (!WAITS || moved) -> moved = 0; b = reserving_0 }
  :: d_step { b == released && view == GIVEWAIT -> moved = 0; b = reserving_0 } /* its deadline */
  :: b == reserving_0 -> fence(0, reserving_1)
  :: b == reserving_1 -> fence(1, reserving_2)
  :: b == reserving_2 -> fence(2, serving)
#ifdef WITHOUT_PROGRESS
#define STILL_WAITS (view == MBWAIT && !moved)
#else
#define STILL_WAITS (view == MBWAIT && !moved && !stale)
#endif
#ifdef WITHOUT_RELEASING_FIRST
#define NOT_YET (of_b.what == 0)
#else
#define NOT_YET 1
#endif
  :: d_step { b == released && STILL_WAITS && NOT_YET ->
       must(I17_nothing_to_a_corpse, !stale);
       returns++;
#ifdef WITHOUT_RELEASING_FIRST
       read_box(); begin(of_b, GEN(best), EPOCH(best), 0) }
  :: d_step { b == released && of_b.what && of_b.open == 0 ->
       if :: of_b.copy == 0 -> of_b.copy = 1; of_b.open = 7 :: else -> forget(of_b); b = awaiting_up fi }
#else
       b = stopping }
#endif
  :: d_step { b == stopping -> /* the engine has released the identity */
#ifndef WITHOUT_DRAINING
       in_log = 0;
#endif
       if :: STILL_WAITS -> read_box(); begin(of_b, GEN(best), EPOCH(best), 0); b = giving
          :: else -> moved = 0; TAKE
       fi }
  :: d_step { b == giving && of_b.open == 0 ->
       if :: !of_b.lost && of_b.copy == 0 && ALL(SHARED) -> of_b.copy = 1; of_b.open = 7
          :: else -> forget(of_b); b = awaiting_up /* written, or A has read a copy and claims */
       fi }
  :: d_step { (b == giving || b == awaiting_up) && view == UP ->
       /* nothing more of the write is begun, what is on its way has been aborted by the claim */
       if :: of_b.open == 0 -> forget(of_b) :: else fi;
       moved = 0; b = idle }
#ifndef WITHOUT_RETAKE
  :: d_step { b == awaiting_up -> moved = 0; TAKE } /* dead, silent, another boot, or its deadline */
  :: d_step { b == idle && (a == dead || paused) && stale -> TAKE } /* a plain takeover */
#endif

  /* ---- takeover, retake, resume ---- */
  :: b == fence_0 -> fence(0, fence_1)
  :: b == fence_1 -> fence(1, fence_2)
  :: b == fence_2 -> fence(2, fence_again)
  :: d_step { b == fence_again -> if :: HELD(0) == ALONE -> b = confirming :: else -> b = back_0 fi } /* lost: never reached, a claim stands down */
  :: d_step { b == confirming ->
#ifndef WITHOUT_REREADING_FENCED
       read_box(); confirmed = best;
#endif
#ifdef WITHOUT_MARK_BEFORE_SERVING
       b = awaiting_lease }
#else
       begin(of_b, GEN(confirmed), EPOCH(confirmed) + 1, 1); b = marking }
#endif
  :: d_step { b == marking && of_b.open == 0 ->
       if
       :: of_b.lost -> end_b(); forget(of_b)
       :: !of_b.lost && of_b.copy == 0 -> of_b.copy = 1; of_b.open = 7
       :: else -> forget(of_b); count_anew(); confirmed = 0; b = awaiting_lease
       fi }
#ifdef WITHOUT_AWAITING_LEASE
  :: d_step { b == awaiting_lease ->
#else
  :: d_step { b == awaiting_lease && !lease_a ->
#endif
       must(I2_one_node_answers, !lease_a);
       b = serving }

  /* ---- B boots ---- */
  :: d_step { b == off -> b = leftovers }
  :: d_step { B_ANSWERS && (HELD(0) == OF_A || HELD(1) == OF_A || HELD(2) == OF_A) -> end_b() } /* fenced */
  :: d_step { b == leftovers ->
       read_box();
       if :: TAKEN(best) -> TAKE
          :: !TAKEN(best) && ANY_ALONE -> b = back_0
          :: else -> b = idle
       fi }
  :: d_step { b == back_0 -> if :: HELD(0) == ALONE -> HOLD(0, SHARED) :: else fi; b = back_1 }
  :: d_step { b == back_1 -> if :: HELD(1) == ALONE -> HOLD(1, SHARED) :: else fi; b = back_2 }
  :: d_step { b == back_2 -> if :: HELD(2) == ALONE -> HOLD(2, SHARED) :: else fi; b = idle }
  :: d_step { b != off && crashes < CRASHES -> crashes++; end_b() }
  od
}

active proctype world() {
  do
  /* In the order that leaves most to be aborted: readers take the best block, so other orders add nothing. */
  :: d_step { of_a.open & 6 -> land(of_a, 1); land(of_a, 2) }
  :: d_step { of_a.open == 1 -> land(of_a, 0) }
  :: d_step { of_b.open & 6 -> land(of_b, 1); land(of_b, 2) }
  :: d_step { of_b.open == 1 -> land(of_b, 0) }
  :: d_step { lease_a && b == awaiting_lease -> lease_a = 0 } /* time passes; it matters here only */
  :: d_step { !paused && pauses < PAUSES && a != off && a != dead -> pauses++; paused = 1 }
  :: d_step { paused -> paused = 0 }
  :: atomic { timeout -> must(I18_served_at_last, B_ANSWERS || (a == up && lease_a)); break }
  od
}
