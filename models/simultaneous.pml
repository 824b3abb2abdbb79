/* Both nodes take each other over: docs/protocols/takeover.md (arbitration, T6), boot.md (leftovers, B7). Each serves its own
   identity, may at any moment take its partner for dead, fences the partner's disks one by one, confirms, marks, waits for
   the lease, serves; who finds its own disks fenced reboots; who boots hands back what it has fenced without marking it, and
   resumes what it has marked.

   Bounds: 2 nodes with 3 disks each; CRASHES of either node at any step; TRIES takeovers of each node, which is what a cut
   or a pause gives reason for: there is no link in this model, both nodes are blind from the start, and a process that
   does not move is paused. Client writes do not concern it: whose they are is decided by I2 and I3.
   Left out: the copies of a mailbox (giveback.pml), the log (takeover_mirror.pml); nobody gives back. */

/* check: */
/* check small: -DCRASHES=1 -DTRIES=1 */
/* without OWN_DISK: nobody looks whether its own disk 0 is still its own */
/* without LOOKING_AFTER: it does, but before it fences */
/* without UNREGISTERING: the key of a fencing that ended before it preempted stays where it is */
/* without LEFTOVERS: disks of a takeover that was not marked stay fenced */
/* without RESUMING: a takeover that was marked is not gone on with after a boot */
/* without STAND_DOWN: a node that boots claims over Exclusive Access */
/* without AWAITING_LEASE: two nodes answer */
/* without FENCING_ALL: one disk is left to its owner */

#ifndef CRASHES
#define CRASHES 2
#endif
#ifndef TRIES
#define TRIES 2
#endif

mtype:inv = { I2_one_node_answers, I3_no_older_write_lands, I5_epochs_never_decrease, I6_keys_of_the_serving_node_only, T6_at_most_one_marks, I18_served_at_last };
#define must(name, condition) assert((condition) || !name)

mtype = { off, booting, claim_0, claim_1, claim_2, claim_again, rereading, marking_claim, up,
          fence_0, fence_1, fence_2, fence_again, confirming, marking, awaiting_lease, serving_both,
          back_0, back_1, back_2 };
#define OWN 0   /* Write Exclusive by its owner */
#define ALONE 1 /* Exclusive Access by the partner */
#define BACK 2  /* Write Exclusive by the partner */

/* An identity: its disks, each with the reservation and whether the partner is registered beside its owner; its mailbox, the
   lease under which its home node answers. */
typedef Identity { byte held[3]; bit guest[3]; byte epoch; bit taken; bit lease }
Identity id[2];
/* A node. */
typedef Node { mtype is; byte read; bit known; byte tries }
Node n[2];
byte crashes;
hidden byte k;

#define J (1 - i)
#define OWNS(x) (id[x].held[0] == OWN && id[x].held[1] == OWN && id[x].held[2] == OWN)
#define ANY_ALONE(x) (id[x].held[0] == ALONE || id[x].held[1] == ALONE || id[x].held[2] == ALONE)
#define ALONE_ALL(x) (id[x].held[0] == ALONE && id[x].held[1] == ALONE && id[x].held[2] == ALONE)
#define CLAIMED (n[i].is != off && n[i].is != booting && n[i].is != claim_0 && n[i].is != claim_1 && \
                 n[i].is != claim_2 && n[i].is != claim_again && n[i].is != rereading && !HANDING_BACK)
#define HANDING_BACK ((n[i].is == back_0 || n[i].is == back_1 || n[i].is == back_2) && !id[i].lease)

inline end_boot(next) { n[i].is = next; n[i].read = 0; n[i].known = 0; id[i].lease = 0 }

#ifdef WITHOUT_OWN_DISK
#define MINE 1
#define MINE_BEFORE 1
#else
#ifdef WITHOUT_LOOKING_AFTER
#define MINE 1
#define MINE_BEFORE (id[i].held[0] == OWN)
#else
#define MINE (id[i].held[0] == OWN)
#define MINE_BEFORE 1
#endif
#endif
#ifdef WITHOUT_STAND_DOWN
#define KEPT_OUT(d) 0
#else
#define KEPT_OUT(d) (id[i].held[d] == ALONE)
#endif
#define STILL_FREE (!id[i].taken && id[i].epoch == n[i].read)
#ifdef WITHOUT_LEFTOVERS
#define FENCED 0
#else
#define FENCED (ANY_ALONE(J) && !id[J].taken)
#endif
#ifdef WITHOUT_UNREGISTERING
#define GUEST(x) 0
#else
#define GUEST(x) (id[x].guest[0] || id[x].guest[1] || id[x].guest[2])
#endif
#define LEFT (FENCED || (!ANY_ALONE(J) && GUEST(J)))
#ifdef WITHOUT_UNREGISTERING
#define unregister(d) skip
#else
#define unregister(d) id[J].guest[d] = 0
#endif
/* A fence registers, then preempts; a claim preempts every key but its own. */
#define REGISTERED(d) (id[J].guest[d] || id[J].held[d] != OWN)
#define to_register(d) id[J].guest[d] = 1
#define take(d) id[J].guest[d] = 0; id[J].held[d] = ALONE
#define let_go(d) if :: id[J].held[d] == ALONE -> id[J].held[d] = BACK :: id[J].held[d] == OWN -> unregister(d) :: else fi

proctype node(bit i) {
end:
  do
  /* ---- boot: leftovers first, also of a node that is kept out itself ---- */
  :: d_step { n[i].is == off -> n[i].is = booting }
  :: d_step { n[i].is == booting && LEFT -> n[i].is = back_0 }
  :: d_step { n[i].is == booting && !LEFT && !ANY_ALONE(i) && !id[i].taken -> n[i].read = id[i].epoch; n[i].is = claim_0 }
  :: d_step { (n[i].is == claim_0 || n[i].is == claim_1 || n[i].is == claim_2) ->
       k = (n[i].is == claim_0 -> 0 : (n[i].is == claim_1 -> 1 : 2));
       if :: KEPT_OUT(k) -> end_boot(booting)
          :: else ->
               must(I2_one_node_answers, n[J].is != serving_both || !id[i].taken);
               id[i].held[k] = OWN;
               id[i].guest[k] = 0;
               n[i].is = (n[i].is == claim_0 -> claim_1 : (n[i].is == claim_1 -> claim_2 : claim_again))
       fi;
       k = 0 }
  :: d_step { n[i].is == claim_again -> if :: id[i].held[0] == OWN -> n[i].is = rereading :: else -> end_boot(booting) fi }
  :: d_step { n[i].is == rereading -> if :: OWNS(i) && STILL_FREE -> n[i].is = marking_claim :: else -> end_boot(booting) fi }
  :: d_step { n[i].is == marking_claim ->
       if :: OWNS(i) ->
               must(I5_epochs_never_decrease, n[i].read + 1 > id[i].epoch);
               id[i].epoch = n[i].read + 1; id[i].taken = 0; n[i].read = 0; id[i].lease = 1; n[i].is = up
          :: else -> end_boot(booting)
       fi }

  /* ---- fenced: any write of its own tells it ---- */
  :: d_step { id[i].lease && !OWNS(i) -> end_boot(off) }
  :: d_step { CLAIMED && !OWNS(i) -> end_boot(off) }

  /* ---- takeover ---- */
  :: d_step { n[i].is == up && !id[J].taken && n[i].tries < TRIES && MINE_BEFORE -> n[i].tries++; n[i].is = fence_0 }
#ifndef WITHOUT_RESUMING
  :: d_step { n[i].is == up && id[J].taken -> n[i].is = fence_0 }
#endif
  :: d_step { n[i].is == fence_0 && !REGISTERED(0) -> to_register(0) }
  :: d_step { n[i].is == fence_0 && REGISTERED(0) -> take(0); n[i].is = fence_1 }
  :: d_step { n[i].is == fence_1 && !REGISTERED(1) -> to_register(1) }
  :: d_step { n[i].is == fence_1 && REGISTERED(1) -> take(1); n[i].is = fence_2 }
#ifdef WITHOUT_FENCING_ALL
  :: d_step { n[i].is == fence_2 -> n[i].is = fence_again }
#else
  :: d_step { n[i].is == fence_2 && !REGISTERED(2) -> to_register(2) }
  :: d_step { n[i].is == fence_2 && REGISTERED(2) -> take(2); n[i].is = fence_again }
#endif
  :: d_step { n[i].is == fence_again -> if :: id[J].held[0] == ALONE -> n[i].is = confirming :: else -> n[i].is = back_0 fi } /* lost: never reached, a claim stands down */
  :: d_step { n[i].is == confirming -> if :: MINE -> n[i].read = id[J].epoch; n[i].is = marking :: else -> end_boot(off) fi }
  :: d_step { n[i].is == marking && id[J].held[0] == ALONE ->
       must(I5_epochs_never_decrease, n[i].read + 1 > id[J].epoch);
       id[J].epoch = n[i].read + 1; id[J].taken = 1; n[i].read = 0;
       must(T6_at_most_one_marks, !id[i].taken);
       n[i].is = awaiting_lease }
#ifdef WITHOUT_AWAITING_LEASE
  :: d_step { n[i].is == awaiting_lease ->
#else
  :: d_step { n[i].is == awaiting_lease && !id[J].lease ->
#endif
       must(I2_one_node_answers, !id[J].lease);
       must(I3_no_older_write_lands, ALONE_ALL(J));
       n[i].is = serving_both }

  /* ---- handing back: a lost takeover, or what an earlier boot has left ---- */
  :: d_step { n[i].is == back_0 -> let_go(0); n[i].is = back_1 }
  :: d_step { n[i].is == back_1 -> let_go(1); n[i].is = back_2 }
  :: d_step { n[i].is == back_2 -> let_go(2);
       if :: id[i].lease -> n[i].is = up :: else -> n[i].is = booting fi }

  :: d_step { n[i].is != off && crashes < CRASHES -> crashes++; end_boot(off) }
  od
}

#define GUEST_LEFT(x) (OWNS(x) && (id[x].guest[0] || id[x].guest[1] || id[x].guest[2]))
#define SERVED(i) ((id[i].lease && OWNS(i)) || n[1 - i].is == serving_both)
active proctype world() {
  do
  :: d_step { id[0].lease && n[1].is == awaiting_lease -> id[0].lease = 0 } /* time passes; it matters here only */
  :: d_step { id[1].lease && n[0].is == awaiting_lease -> id[1].lease = 0 }
  :: atomic { timeout ->
       must(I18_served_at_last, SERVED(0) && SERVED(1));
       must(I6_keys_of_the_serving_node_only, !GUEST_LEFT(0) && !GUEST_LEFT(1));
       break }
  od
}

init { d_step {
  id[0].epoch = 1; id[1].epoch = 1; id[0].lease = 1; id[1].lease = 1; n[0].is = up; n[1].is = up };
  atomic { run node(0); run node(1) } }
