// SPDX-License-Identifier: UNLICENSED
pragma solidity 0.8.30;

/// @title Delegated staking with reward per share, unbonding and slashing
/// @notice Operators register, anybody delegates native coin to them, rewards are shared in proportion to stake after the
/// operator's commission, and the owner may slash: a slash takes from stake and from unbonding stake that is not released yet.
/// @dev Written to be replayed. Every number follows from the events alone with integer arithmetic:
///  - A reward R raises the pool's index: n = (R - commission + held) * SCALE + remainder; acc += n / total; remainder = n % total.
///    A pool without stake holds its reward for the next distribution.
///  - A position is settled when it is touched. The walk stops at each slash, so that reward is floored at the same points
///    whether slashes are applied one by one as they happen or lazily, as here.
///  - A slash of b basis points takes ceil(stake * b / 10000) of every position and of every unreleased unbonding, and
///    floor(total * b / 10000) of the pool's total, so the total never falls below the sum of its parts.
///  - When the last counted position of a pool is emptied, what rounding left in its total is dropped.
/// Slashed coin stays in the contract for good. Views answer as if everything had been settled in the block they are asked at.
contract Staking {
    uint256 public constant SCALE = 1e18;
    uint256 public constant BASIS = 10_000;

    struct Slash {
        uint256 bps;
        uint256 acc;
        uint256 time;
    }

    struct Validator {
        bool registered;
        uint256 commissionBps;
        uint256 totalStake;
        uint256 acc;
        uint256 remainder;
        uint256 held;
        uint256 count;
        uint256 commissionEarned;
        uint256 commissionClaimed;
        string metadata;
    }

    struct Position {
        uint256 stake;
        uint256 acc;
        uint256 cursor;
        uint256 earned;
        uint256 claimed;
        uint256 lost;
        uint256 principalIn;
        uint256 principalOut;
        bool counted;
    }

    struct Unbonding {
        address validator;
        address delegator;
        uint256 amount;
        uint256 releaseTime;
        uint256 cursor;
    }

    event Delegated(address indexed validator, address indexed delegator, uint256 amount);
    event Undelegated(
        address indexed validator, address indexed delegator, uint256 id, uint256 amount, uint256 releaseTime
    );
    /// @param amount What was paid out, after slashing; may be zero.
    event Withdrawn(address indexed validator, address indexed delegator, uint256 id, uint256 amount);
    event Redelegated(address indexed source, address indexed target, address indexed delegator, uint256 amount);
    /// @param amount The gross reward. @param commission The operator's part of it.
    /// @param rewardPerShare The pool's index afterwards, scaled by SCALE.
    event RewardDistributed(
        address indexed validator, uint256 amount, uint256 commission, uint256 rewardPerShare
    );
    event RewardClaimed(address indexed validator, address indexed delegator, uint256 amount);
    event CommissionClaimed(address indexed validator, uint256 amount);
    /// @param amount The loss of the pool's total stake.
    event Slashed(address indexed validator, uint256 bps, uint256 amount);
    event ValidatorUpdated(address indexed validator, uint256 commissionBps, string metadata);

    error NotOwner();
    error NotRegistered(address validator);
    error AlreadyRegistered(address validator);
    error BasisPointsOutOfRange(uint256 bps);
    error ZeroAmount();
    error SameValidator();
    error InsufficientStake(uint256 stake, uint256 wanted);
    error NotYourUnbonding(uint256 id);
    error StillUnbonding(uint256 releaseTime);
    error NothingToClaim();
    error PaymentFailed();

    address public immutable owner;
    /// @notice Seconds from undelegate to withdraw.
    uint256 public immutable unbondingDelay;
    /// @notice The last unbonding id given out; ids count from 1.
    uint256 public lastUnbonding;

    mapping(address validator => Validator) private _validators;
    mapping(address validator => Slash[]) private _slashes;
    mapping(address validator => mapping(address delegator => Position)) private _positions;
    mapping(uint256 id => Unbonding) private _unbondings;
    mapping(address validator => mapping(address delegator => uint256[])) private _open;
    /// @dev Place of an open unbonding in its `_open` list.
    mapping(uint256 id => uint256) private _place;

    constructor(uint256 unbondingDelay_) {
        owner = msg.sender;
        unbondingDelay = unbondingDelay_;
    }

    modifier known(address validator) {
        require(_validators[validator].registered, NotRegistered(validator));
        _;
    }

    // --- operators ------------------------------------------------------------------------------------------------------

    /// @notice Become a validator under the caller's own address.
    function registerValidator(uint256 bps, string calldata metadata) external {
        require(bps <= BASIS, BasisPointsOutOfRange(bps));
        Validator storage v = _validators[msg.sender];
        require(!v.registered, AlreadyRegistered(msg.sender));
        v.registered = true;
        v.commissionBps = bps;
        v.metadata = metadata;
        emit ValidatorUpdated(msg.sender, bps, metadata);
    }

    /// @notice Change the caller's commission, for rewards distributed from now on.
    function setCommission(uint256 bps) external known(msg.sender) {
        require(bps <= BASIS, BasisPointsOutOfRange(bps));
        Validator storage v = _validators[msg.sender];
        v.commissionBps = bps;
        emit ValidatorUpdated(msg.sender, bps, v.metadata);
    }

    /// @notice Change the caller's description. Any bytes are accepted: readers must treat them as hostile.
    function setMetadata(string calldata metadata) external known(msg.sender) {
        Validator storage v = _validators[msg.sender];
        v.metadata = metadata;
        emit ValidatorUpdated(msg.sender, v.commissionBps, metadata);
    }

    /// @notice Pay out the commission the caller has earned as an operator.
    function claimCommission() external {
        Validator storage v = _validators[msg.sender];
        uint256 amount = v.commissionEarned - v.commissionClaimed;
        require(amount > 0, NothingToClaim());
        v.commissionClaimed += amount;
        emit CommissionClaimed(msg.sender, amount);
        _pay(msg.sender, amount);
    }

    // --- delegators -----------------------------------------------------------------------------------------------------

    /// @notice Stake the coin sent along with `validator`.
    function delegate(address validator) external payable known(validator) {
        require(msg.value > 0, ZeroAmount());
        Position storage p = _settle(validator, msg.sender);
        _putIn(validator, p, msg.value);
        emit Delegated(validator, msg.sender, msg.value);
    }

    /// @notice Begin to take `amount` out. It stays open to slashing until its release time.
    function undelegate(address validator, uint256 amount) external returns (uint256 id) {
        Position storage p = _settle(validator, msg.sender);
        _takeOut(validator, p, amount);
        id = ++lastUnbonding;
        uint256 releaseTime = block.timestamp + unbondingDelay;
        _unbondings[id] = Unbonding(validator, msg.sender, amount, releaseTime, _slashes[validator].length);
        _place[id] = _open[validator][msg.sender].length;
        _open[validator][msg.sender].push(id);
        emit Undelegated(validator, msg.sender, id, amount, releaseTime);
    }

    /// @notice Pay out a released unbonding: what slashes before its release time left of it.
    function withdraw(uint256 id) external {
        Unbonding memory u = _unbondings[id];
        require(u.delegator == msg.sender, NotYourUnbonding(id));
        require(block.timestamp >= u.releaseTime, StillUnbonding(u.releaseTime));
        (uint256 paid, uint256 lost) = _afterSlashes(u);
        Position storage p = _positions[u.validator][msg.sender];
        p.lost += lost;
        p.principalOut += paid;
        delete _unbondings[id];
        _forget(_open[u.validator][msg.sender], id);
        emit Withdrawn(u.validator, msg.sender, id, paid);
        _pay(msg.sender, paid);
    }

    /// @notice Move `amount` of stake to another validator without unbonding.
    function redelegate(address source, address target, uint256 amount) external known(target) {
        require(source != target, SameValidator());
        Position storage from = _settle(source, msg.sender);
        _takeOut(source, from, amount);
        from.principalOut += amount;
        Position storage to = _settle(target, msg.sender);
        _putIn(target, to, amount);
        emit Redelegated(source, target, msg.sender, amount);
    }

    /// @notice Pay out everything the caller has earned with `validator`.
    function claim(address validator) external {
        Position storage p = _settle(validator, msg.sender);
        uint256 amount = p.earned - p.claimed;
        require(amount > 0, NothingToClaim());
        p.claimed += amount;
        emit RewardClaimed(validator, msg.sender, amount);
        _pay(msg.sender, amount);
    }

    // --- rewards and slashing -------------------------------------------------------------------------------------------

    /// @notice Share the coin sent along among the stake of `validator`, after commission. Anybody may pay.
    function distributeReward(address validator) external payable known(validator) {
        Validator storage v = _validators[validator];
        uint256 commission = msg.value * v.commissionBps / BASIS;
        v.commissionEarned += commission;
        uint256 net = msg.value - commission + v.held;
        if (v.totalStake == 0) {
            v.held = net;
        } else {
            v.held = 0;
            uint256 n = net * SCALE + v.remainder;
            v.acc += n / v.totalStake;
            v.remainder = n % v.totalStake;
        }
        emit RewardDistributed(validator, msg.value, commission, v.acc);
    }

    /// @notice Take `bps` basis points of all stake with `validator` and of its unreleased unbondings.
    function slash(address validator, uint256 bps) external known(validator) {
        require(msg.sender == owner, NotOwner());
        require(bps > 0 && bps <= BASIS, BasisPointsOutOfRange(bps));
        Validator storage v = _validators[validator];
        uint256 loss = v.totalStake * bps / BASIS;
        v.totalStake -= loss;
        _slashes[validator].push(Slash(bps, v.acc, block.timestamp));
        emit Slashed(validator, bps, loss);
    }

    // --- views: cumulative, and as if settled now -------------------------------------------------------------------------

    function stakeOf(address validator, address delegator) external view returns (uint256) {
        return _settled(validator, delegator).stake;
    }

    /// @notice Reward net of commission since the beginning, claimed or not.
    function earnedOf(address validator, address delegator) external view returns (uint256) {
        return _settled(validator, delegator).earned;
    }

    function claimedOf(address validator, address delegator) external view returns (uint256) {
        return _positions[validator][delegator].claimed;
    }

    /// @notice Principal slashed since the beginning, from stake and from unbondings, paid out or still open.
    function lostOf(address validator, address delegator) external view returns (uint256 lost) {
        lost = _settled(validator, delegator).lost;
        uint256[] storage ids = _open[validator][delegator];
        for (uint256 i = 0; i < ids.length; ++i) {
            (, uint256 part) = _afterSlashes(_unbondings[ids[i]]);
            lost += part;
        }
    }

    function principalInOf(address validator, address delegator) external view returns (uint256) {
        return _positions[validator][delegator].principalIn;
    }

    function principalOutOf(address validator, address delegator) external view returns (uint256) {
        return _positions[validator][delegator].principalOut;
    }

    function commissionEarnedOf(address validator) external view returns (uint256) {
        return _validators[validator].commissionEarned;
    }

    function commissionClaimedOf(address validator) external view returns (uint256) {
        return _validators[validator].commissionClaimed;
    }

    /// @notice An open unbonding: what is left of it, what slashes took, and when it is released. All zero once paid out.
    function unbondingOf(uint256 id)
        external
        view
        returns (address validator, address delegator, uint256 amount, uint256 lost, uint256 releaseTime)
    {
        Unbonding memory u = _unbondings[id];
        (amount, lost) = _afterSlashes(u);
        return (u.validator, u.delegator, amount, lost, u.releaseTime);
    }

    function openUnbondingsOf(address validator, address delegator) external view returns (uint256[] memory) {
        return _open[validator][delegator];
    }

    function validatorOf(address validator) external view returns (Validator memory) {
        return _validators[validator];
    }

    function slashesOf(address validator) external view returns (Slash[] memory) {
        return _slashes[validator];
    }

    // --- arithmetic -----------------------------------------------------------------------------------------------------

    /// @dev The one walk that both views and transactions use, so they cannot differ.
    function _settled(address validator, address delegator) private view returns (Position memory p) {
        p = _positions[validator][delegator];
        Slash[] storage slashes = _slashes[validator];
        uint256 length = slashes.length;
        for (uint256 k = p.cursor; k < length; ++k) {
            Slash memory s = slashes[k];
            p.earned += p.stake * (s.acc - p.acc) / SCALE;
            uint256 loss = _shareUp(p.stake, s.bps);
            p.stake -= loss;
            p.lost += loss;
            p.acc = s.acc;
        }
        p.cursor = length;
        uint256 acc = _validators[validator].acc;
        p.earned += p.stake * (acc - p.acc) / SCALE;
        p.acc = acc;
    }

    function _settle(address validator, address delegator) private returns (Position storage p) {
        p = _positions[validator][delegator];
        Position memory settled = _settled(validator, delegator);
        p.stake = settled.stake;
        p.acc = settled.acc;
        p.cursor = settled.cursor;
        p.earned = settled.earned;
        p.lost = settled.lost;
        _sweep(validator, p);
    }

    function _putIn(address validator, Position storage p, uint256 amount) private {
        Validator storage v = _validators[validator];
        p.stake += amount;
        p.principalIn += amount;
        v.totalStake += amount;
        if (!p.counted) {
            p.counted = true;
            v.count += 1;
        }
    }

    function _takeOut(address validator, Position storage p, uint256 amount) private {
        require(amount > 0, ZeroAmount());
        require(amount <= p.stake, InsufficientStake(p.stake, amount));
        p.stake -= amount;
        _validators[validator].totalStake -= amount;
        _sweep(validator, p);
    }

    function _sweep(address validator, Position storage p) private {
        if (!p.counted || p.stake != 0) return;
        Validator storage v = _validators[validator];
        p.counted = false;
        v.count -= 1;
        if (v.count == 0) v.totalStake = 0;
    }

    function _afterSlashes(Unbonding memory u) private view returns (uint256 amount, uint256 lost) {
        Slash[] storage slashes = _slashes[u.validator];
        amount = u.amount;
        for (uint256 k = u.cursor; k < slashes.length; ++k) {
            Slash memory s = slashes[k];
            if (s.time >= u.releaseTime) break;
            uint256 loss = _shareUp(amount, s.bps);
            amount -= loss;
            lost += loss;
        }
    }

    function _shareUp(uint256 amount, uint256 bps) private pure returns (uint256) {
        return (amount * bps + BASIS - 1) / BASIS;
    }

    function _forget(uint256[] storage ids, uint256 id) private {
        uint256 place = _place[id];
        uint256 last = ids[ids.length - 1];
        ids[place] = last;
        _place[last] = place;
        ids.pop();
        delete _place[id];
    }

    /// @dev Always the last thing a function does: state and events are written before any other code runs.
    function _pay(address to, uint256 amount) private {
        (bool paid,) = to.call{value: amount}("");
        require(paid, PaymentFailed());
    }
}
